import DeviceState
import FuzzInput
import GuestRAM
import VirtioCore
import VirtioNet
import Virtqueue

// A driver that sends packets and commands and offers buffers of any kind, a port that gives any packets and has room now
// and then, and states that come from anywhere.

private let memoryByteCount = 0x20000
private let memory = try? GuestMemory(byteCount: UInt64(memoryByteCount))
private let queueCount = 5

func run(_ input: FuzzInput) {
  do {
    guard let memory else { preconditionFailure("no memory for the guest") }
    try memory.write(bytes: [UInt8](repeating: 0, count: memoryByteCount), at: GuestAddress(0))
    var guest = try Guest(input, memory)
    try guest.live()
  } catch {
    // Refused, by name.
    _ = "\(error)"
  }
}

final class FuzzedPort: PacketPort {
  let name = "fuzzed"
  var takenOffloads: Offloads = .all
  var descriptor: Int32? { nil }
  var counters = PortCounters()
  var failure: PortError?
  var room = 0
  var waiting: [(frame: [UInt8], header: NetHeader)] = []

  func setGivenOffloads(_ offloads: Offloads) {}

  func send(_ batch: inout PacketBatch) {
    while room > 0, !batch.isEmpty {
      require(batch.header(0) != nil, "a port is given headers of known kinds")
      require(takenOffloads.contains(.checksum) || batch.header(0)?.isPlain == true, "what a port does not do is done")
      batch.removeFirst()
      room -= 1
    }
  }

  func receive(into batch: inout PacketBatch) {
    while let packet = waiting.first, batch.append(packet.frame[...], packet.header) { waiting.removeFirst() }
  }
}

struct Guest: ~Copyable {
  private var input: FuzzInput
  private let memory: GuestMemory
  private let port = FuzzedPort()
  private var host: DeviceHost<NetDevice>
  private var available = [UInt16](repeating: 0, count: queueCount)

  init(_ input: FuzzInput, _ memory: GuestMemory) throws {
    self.input = input
    self.memory = memory
    var options = NetOptions(address: EthernetAddress([2, 0, 0, 0, 0, 1], at: 0))
    options.pairCount = 2
    options.queueSize = 16
    options.mtu = 1500
    host = DeviceHost(NetDevice(options, ports: [port])) { _ in }
    host.remind = { _ in }
    try host.attach(memory)
  }

  mutating func live() throws {
    try start()
    for _ in 0..<96 where !input.isAtEnd {
      try act()
      require(!host.hasChainsInFlight || host.isBroken, "a card keeps no chain")
      if host.isBroken { return }
    }
  }

  private mutating func startAnew() throws {
    try host.writeStatus([])
    try memory.write(bytes: [UInt8](repeating: 0, count: queueCount * 0x1000), at: GuestAddress(0))
    available = [UInt16](repeating: 0, count: queueCount)
    _ = host.resume()
    try start()
  }

  private mutating func start() throws {
    port.takenOffloads = input.byte() & 1 == 0 ? .all : []
    let asked = Features(low: input.integer(UInt64.self)).union([.version1, .netControlQueue, .netMultiqueue])
    try host.writeStatus([.acknowledge, .driver])
    host.writeFeatures(asked.intersection(host.offeredFeatures).subtracting([.eventIndex]))
    try host.writeStatus([.acknowledge, .driver, .featuresOK])
    for queue in 0..<queueCount {
      let base = UInt64(queue) * 0x1000
      try host.startQueue(
        queue,
        QueueConfiguration(
          size: 16, descriptorTable: GuestAddress(base), availableRing: GuestAddress(base + 0x400),
          usedRing: GuestAddress(base + 0x800)))
    }
    try host.writeStatus([.acknowledge, .driver, .featuresOK, .driverOK])
  }

  private mutating func act() throws {
    let choice = input.byte()
    switch choice & 15 {
    case 0...7: try offer(Int(choice >> 4) % queueCount)
    case 8, 9: givePacket()
    case 10: port.room = Int(input.byte())
    case 11: try startAnew()
    case 12: try adopt()
    case 13: try saveAndRestore()
    case 14: operate(choice >> 4)
    default: try memory.write(bytes: input.bytes(upTo: Int(input.byte())), at: GuestAddress(place()))
    }
    _ = host.kick(Int(choice >> 4) % queueCount)
    host.wake()
  }

  /// Somewhere in memory, rings and all.
  private mutating func place() -> UInt64 { UInt64(input.integer(UInt16.self)) }

  /// Makes a chain of up to three buffers available, that of a packet or a command as often as the fuzzer likes.
  private mutating func offer(_ queue: Int) throws {
    let shape = input.byte()
    let content = input.bytes(upTo: Int(input.byte()))
    let base = UInt64(queue) * 0x1000
    let buffer = 0x8000 + UInt64(queue) * 0x3000
    try memory.write(bytes: content, at: GuestAddress(buffer))
    let head = available[queue] % 16
    let isReceive = queue == 0 || queue == 2
    let length = isReceive ? UInt32(shape) * 16 : UInt32(content.count)
    let split = shape & 1 == 0 ? length : min(length, UInt32(input.byte()))
    let isCommand = queue == 4
    let table = GuestAddress(base)
    let flags: UInt16 = isReceive ? 2 : 0
    let first = (head * 3) % 14
    try descriptor(table, first, buffer, split, flags | 1, first + 1)
    try descriptor(table, first + 1, buffer + UInt64(split), length - split, flags | (isCommand ? 1 : 0), first + 2)
    try descriptor(table, first + 2, buffer + 0x2000, 1, 2, 0)
    try memory.write(first, at: GuestAddress(base + 0x404 + 2 * UInt64(head)))
    available[queue] &+= 1
    try memory.publish(available[queue], at: GuestAddress(base + 0x402))
  }

  private func descriptor(
    _ table: GuestAddress, _ index: UInt16, _ address: UInt64, _ byteCount: UInt32, _ flags: UInt16, _ next: UInt16
  ) throws {
    let fields = bytes(of: address) + bytes(of: byteCount) + bytes(of: flags) + bytes(of: next)
    try memory.write(bytes: fields, at: GuestAddress(table.rawValue + 16 * UInt64(index)))
  }

  private mutating func givePacket() {
    var header = NetHeader()
    header.flags = NetHeader.Flags(rawValue: input.byte() & 7)
    let kind = input.byte()
    header.segmentation = NetHeader.Segmentation(rawValue: kind & 7) ?? .none
    header.hasCongestionBit = kind & 0x80 != 0
    header.segmentByteCount = input.integer(UInt16.self)
    header.checksumStart = UInt16(input.byte())
    header.checksumOffset = UInt16(input.byte())
    let repeats = Int(input.byte() & 15)
    var frame = input.bytes(upTo: Int(input.byte()))
    frame += [UInt8](repeating: kind, count: repeats * 256)
    if port.waiting.count < 100 { port.waiting.append((frame, header)) }
  }

  private mutating func operate(_ choice: UInt8) {
    switch choice {
    case 0...3: host.update { $0.setLink(isUp: false) }
    case 4...7: host.update { $0.setLink(isUp: true) }
    case 8, 9: host.update { $0.announce() }
    case 10: port.failure = .disconnected("fuzzed")
    case 11: port.failure = nil
    case 12: host.pause()
    case 13: host.sendHeldNotifications()
    default: _ = host.resume()
    }
  }

  /// A state that is taken is what the card then has, and one that is not changes nothing.
  private mutating func adopt() throws {
    var payload = try host.device.state.encoded()
    for _ in 0...(input.byte() & 7) {
      let place = Int(input.integer(UInt16.self)) % payload.count
      payload[place] = input.byte()
    }
    guard let state = try? NetState(decoding: payload) else { return }
    let before = host.device.state
    do {
      try host.update { (device) throws in try device.adopt(state) }
    } catch {
      require(host.device.state == before, "a state that is refused changes nothing")
    }
  }

  private mutating func saveAndRestore() throws {
    host.pause()
    var snapshot = Snapshot()
    try host.save(into: &snapshot)
    let before = host.device.state
    try host.restore(from: &snapshot)
    require(host.device.state == before, "a card goes on from what it has saved")
    _ = host.resume()
  }
}

#if FUZZ
  @c(LLVMFuzzerTestOneInput)
  public func fuzz(_ start: UnsafePointer<UInt8>?, _ count: Int) -> CInt {
    run(FuzzInput(start, count))
    return 0
  }
#else
  @main enum Program {
    static func main() { replay(run) }
  }
#endif
