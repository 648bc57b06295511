import DeviceState
import GuestRAM
import Support
import VirtioCore
import VirtioNet
import Virtqueue

/// A port whose other side is the test.
final class ScriptedPort: PacketPort {
  struct Packet: Equatable {
    var header = NetHeader()
    var frame: [UInt8]
  }

  let name = "scripted"
  var takenOffloads: Offloads = .all
  var givenOffloads: Offloads = []
  var descriptor: Int32? { nil }
  var counters = PortCounters()
  var failure: PortError?
  /// What the card has sent.
  var sent: [Packet] = []
  /// What the card is to get.
  var waiting: [Packet] = []
  /// How many more packets it takes.
  var room = Int.max
  /// How often the card has called it with something to send, or with nothing.
  var sendCount = 0

  func setGivenOffloads(_ offloads: Offloads) { givenOffloads = offloads }

  func send(_ batch: inout PacketBatch) {
    sendCount += 1
    while room > 0, !batch.isEmpty {
      sent.append(Packet(header: batch.header(0) ?? NetHeader(), frame: Array(batch.bytes[batch.frame(0)])))
      batch.removeFirst()
      if room != .max { room -= 1 }
    }
  }

  func receive(into batch: inout PacketBatch) {
    while let packet = waiting.first, batch.append(packet.frame[...], packet.header) { waiting.removeFirst() }
  }
}

/// An Ethernet frame with a payload that counts up.
func frame(
  to destination: EthernetAddress = .broadcast,
  from source: EthernetAddress = EthernetAddress([2, 0, 0, 0, 0, 1], at: 0), type: UInt16 = 0x88B5,
  byteCount: Int = 64
) -> [UInt8] {
  var bytes = destination.bytes + source.bytes
  bytes += [UInt8(type >> 8), UInt8(truncatingIfNeeded: type)]
  bytes += (bytes.count..<max(byteCount, bytes.count)).map { UInt8(truncatingIfNeeded: $0) }
  return bytes
}

let cardAddress = EthernetAddress([0x52, 0x54, 0, 0x12, 0x34, 0x56], at: 0)

/// A card and its driver's rings.
typealias NetBench = DeviceBench<NetDevice>

extension DeviceBench<NetDevice> {
  static let receive = 0
  static let transmit = 1

  /// A card with one port.
  static func card(
    _ port: ScriptedPort, pairs: Int = 1, change: (inout NetOptions) -> Void = { _ in }
  ) throws -> NetBench {
    try NetBench(device(port, pairs: pairs, change: change))
  }

  private static func device(_ port: ScriptedPort, pairs: Int, change: (inout NetOptions) -> Void) -> NetDevice {
    var options = NetOptions(address: cardAddress)
    options.pairCount = pairs
    options.queueSize = 64
    change(&options)
    return NetDevice(options, ports: [port])
  }

  /// Makes a packet available on a transmit queue, split into buffers of these lengths.
  mutating func transmit(_ packet: [UInt8], split: [Int] = [], slot: UInt64 = 0, queue: Int = 1) throws {
    let start = heap + slot * 0x10000
    try memory.write(bytes: packet, at: GuestAddress(start))
    var place = 0
    var buffers: [RingFixture.Buffer] = []
    for length in split + [packet.count - split.reduce(0, +)] {
      buffers.append(.readable(start + UInt64(place), UInt32(length)))
      place += length
    }
    try rings[queue].send(buffers)
    host.kick(queue)
  }

  /// Makes receive buffers available, one behind the other; returns where the first lies.
  @discardableResult
  mutating func offer(_ count: Int, of byteCount: Int, split: Int? = nil, queue: Int = 0) throws -> UInt64 {
    for number in 0..<count {
      let start = heap + UInt64(number * byteCount)
      if let split {
        try rings[queue].send([
          .writable(start, UInt32(split)), .writable(start + UInt64(split), UInt32(byteCount - split)),
        ])
      } else {
        try rings[queue].send([.writable(start, UInt32(byteCount))])
      }
    }
    return heap
  }

  /// Sends a command and returns its answer; nil when the device gave none.
  mutating func command(_ bytes: [UInt8], queue: Int = 2) throws -> UInt8? {
    let start = heap + 0x3F000
    try memory.write(bytes: bytes + [0xEE], at: GuestAddress(start))
    let answer = start + UInt64(bytes.count)
    try rings[queue].send([.readable(start, UInt32(bytes.count)), .writable(answer, 1)])
    host.kick(queue)
    guard let used = try rings[queue].takeUsed(), used.byteCount == 1 else { return nil }
    return try memory.read(UInt8.self, at: GuestAddress(answer))
  }

  func bytes(_ count: Int, at address: UInt64) throws -> [UInt8] {
    try memory.readBytes(count, at: GuestAddress(address))
  }
}

/// A header of twelve bytes in which nothing is left undone.
let plainHeader = [UInt8](repeating: 0, count: 12)

/// Every feature that a card of `NetBench.card` offers with several pairs of queues, but for those that change the header.
let allFeatures: Features = NetControlTests.all.union([.netMultiqueue, .netRSS])

extension DeviceBench<NetDevice> {
  /// The same driver, with its memory, on a card with another port that goes on from the state of this one.
  mutating func moved(
    to port: ScriptedPort, pairs: Int = 1, change: (inout NetOptions) -> Void = { _ in }
  ) throws -> NetBench {
    host.pause()
    var snapshot = try Snapshot(decoding: save().encoded())
    var other = try moved(to: Self.device(port, pairs: pairs, change: change))
    try other.host.attach(other.memory)
    try other.host.restore(from: &snapshot)
    other.host.resume()
    other.host.wake()
    return other
  }

  /// How many buffers of each receive queue were used.
  func receivedCounts(pairs: Int) throws -> [Int] {
    try (0..<pairs).map { try Int(rings[2 * $0].publishedUsedIndex) }
  }
}

/// `VIRTIO_NET_CTRL_MQ_RSS_CONFIG`, with a key of the published vectors unless told otherwise.
struct QueueChoice {
  var types: UInt32 = 0x3F
  var mask: UInt16?
  var unclassified: UInt16 = 0
  var table: [UInt16] = [0]
  var transmitCount: UInt16 = 1
  var keyByteCount: UInt8?
  var key = FlowHashTests.key

  var bytes: [UInt8] {
    let numbers = [mask ?? UInt16(table.count - 1), unclassified] + table + [transmitCount]
    let front: [UInt8] = [4, 1] + little(types)
    return front + numbers.flatMap { little($0) } + [keyByteCount ?? UInt8(key.count)] + key
  }
}

func little<T: FixedWidthInteger>(_ number: T) -> [UInt8] {
  stride(from: 0, to: T.bitWidth, by: 8).map { UInt8(truncatingIfNeeded: number >> T($0)) }
}
