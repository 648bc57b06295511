import GuestRAM
import LinuxIO
import Support
import Synchronization
import Testing
import VirtioCore
import VirtioNet
import Virtqueue

/// What lies behind the ports of a card, for its threads and the test: what each port takes it gives back.
final class Wire: Sendable {
  struct End {
    /// What the card has sent, in order.
    var sent: [[UInt8]] = []
    /// What the card has yet to get.
    var waiting: [[UInt8]] = []
    var room = Int.max
    var failure: PortError?
  }

  final class Sign: Sendable {
    let event: Eventfd
    init() throws { event = try Eventfd() }
  }

  let ends: Mutex<[End]>
  let signs: [Sign]

  init(count: Int = 2) throws {
    ends = Mutex([End](repeating: End(), count: count))
    signs = try (0..<count).map { _ in try Sign() }
  }

  func sentNumbers(_ end: Int) -> [UInt32] {
    ends.withLock { $0[end].sent.map(BenchFrame.number) }
  }

  func fail(_ end: Int) {
    ends.withLock { $0[end].failure = .disconnected("wire:\(end)") }
    signs[end].event.signal()
  }

  /// A port for each end, on a thread of its own.
  func ports() throws -> [ThreadedPort] {
    try signs.indices.map { end in
      try ThreadedPort(threadName: "test") { [self] () throws(PortError) in WirePort(self, end) }
    }
  }
}

private final class WirePort: PacketPort {
  let wire: Wire
  let end: Int
  var counters = PortCounters()

  init(_ wire: Wire, _ end: Int) {
    self.wire = wire
    self.end = end
  }

  var name: String { "wire:\(end)" }
  var takenOffloads: Offloads { .all }
  func setGivenOffloads(_ offloads: Offloads) {}
  var descriptor: Int32? { wire.signs[end].event.descriptor.rawValue }
  var failure: PortError? { wire.ends.withLock { $0[end].failure } }

  func send(_ batch: inout PacketBatch) {
    let frames = (0..<batch.count).map { Array(batch.bytes[batch.frame($0)]) }
    let count = wire.ends.withLock { ends in
      guard ends[end].failure == nil else { return frames.count }
      let taken = frames.prefix(ends[end].room)
      if ends[end].room != .max { ends[end].room -= taken.count }
      ends[end].sent += taken
      ends[end].waiting += taken
      return taken.count
    }
    batch.removeFirst(count)
  }

  func receive(into batch: inout PacketBatch) {
    wire.ends.withLock { ends in
      while let frame = ends[end].waiting.first, batch.append(frame[...]) { ends[end].waiting.removeFirst() }
    }
  }
}

/// A card with two pairs, and a driver that numbers its frames.
final class PairBench {
  static let transmitted = [1, 3]
  static let received = [0, 2]
  private static let slots: UInt64 = 32
  private static let bufferByteCount: UInt64 = 128

  final class Reports {
    var all: [PortError] = []
  }

  var net: NetBench
  let loop: EventLoop
  let reports: Reports
  /// The numbers of the frames that came to each pair, in order.
  private(set) var numbers: [[UInt32]] = [[], []]
  private var sentCounts: [UInt64] = [0, 0]
  private var usedCounts: [UInt64] = [0, 0]
  private var offeredCounts: [UInt64] = [0, 0]
  private var isBusy = false

  init(_ ports: [any PacketPort]) throws {
    let reports = Reports()
    self.reports = reports
    loop = try EventLoop()
    net = try NetBench(Self.device(ports, reports))
    try watch(ports)
    try net.start([.version1, .netStatus, .netControlQueue, .netMultiqueue])
    let command: [UInt8] = [4, 0] + little(UInt16(2))
    let answer = try net.command(command, queue: 4)
    try #require(answer == 0)
  }

  private static func device(_ ports: [any PacketPort], _ reports: Reports) -> NetDevice {
    var options = NetOptions(address: cardAddress)
    options.pairCount = ports.count
    options.queueSize = 64
    options.announcesMoves = false
    return NetDevice(options, ports: ports) { reports.all.append($0) }
  }

  private func watch(_ ports: [any PacketPort]) throws {
    for descriptor in ports.compactMap(\.descriptor) {
      try loop.watch(descriptor, for: [.readable, .writable, .onChange]) {}
    }
  }

  /// Has the driver, with its memory and its rings, go on with another card, from the state of this one as it is now.
  func move(to ports: [any PacketPort]) throws {
    net.host.pause()
    var snapshot = try net.save()
    var moved = try net.moved(to: Self.device(ports, reports))
    try moved.host.attach(moved.memory)
    try moved.host.restore(from: &snapshot)
    moved.host.resume()
    net = moved
    try watch(ports)
  }

  private func address(_ pair: Int, isReceiving: Bool, _ count: UInt64) -> UInt64 {
    let area = UInt64(2 * pair + (isReceiving ? 1 : 0)) * 0x2000
    return net.heap + area + count % Self.slots * Self.bufferByteCount
  }

  /// Makes a frame available on a pair's transmit queue, and does not kick.
  /// - Returns: false when too many are on their way.
  func send(_ number: UInt32, _ pair: Int) throws -> Bool {
    usedCounts[pair] += UInt64(try net.rings[Self.transmitted[pair]].takeAllUsed().count)
    guard sentCounts[pair] - usedCounts[pair] < Self.slots else { return false }
    let bytes = plainHeader + BenchFrame.bytes(to: 0x0200_0000_0001, from: 0x5254_0012_3456, number)
    let start = address(pair, isReceiving: false, sentCounts[pair])
    try net.memory.write(bytes: bytes, at: GuestAddress(start))
    _ = try net.rings[Self.transmitted[pair]].send([.readable(start, UInt32(bytes.count))])
    sentCounts[pair] += 1
    return true
  }

  /// Looks at what came, and makes all buffers available anew.
  func receive(_ pair: Int) throws {
    let queue = Self.received[pair]
    for used in try net.rings[queue].takeAllUsed() {
      let start = address(pair, isReceiving: true, offeredCounts[pair] - Self.slots)
      let bytes = try net.bytes(Int(used.byteCount), at: start)
      offeredCounts[pair] += 1
      _ = try net.rings[queue].send([.writable(start, UInt32(Self.bufferByteCount))])
      // The kernel talks too.
      if bytes.count == 12 + BenchFrame.bytes(to: 0, from: 0).count {
        numbers[pair].append(BenchFrame.number(of: Array(bytes[12...])))
      }
    }
    while offeredCounts[pair] < Self.slots {
      let start = address(pair, isReceiving: true, offeredCounts[pair])
      _ = try net.rings[queue].send([.writable(start, UInt32(Self.bufferByteCount))])
      offeredCounts[pair] += 1
    }
    if net.host.kick(queue) { isBusy = true }
  }

  /// Sends so many frames on each pair, and receives, until the condition holds.
  func run(_ count: UInt32, from first: UInt32 = 0, until isDone: (PairBench) -> Bool) throws {
    var next = [first, first]
    while true {
      isBusy = false
      for pair in 0...1 {
        while next[pair] < first + count, try send(next[pair], pair) { next[pair] += 1 }
        if net.host.kick(Self.transmitted[pair]) { isBusy = true }
        try receive(pair)
      }
      if isDone(self) { return }
      // The card has used buffers, or waits for its turn.
      isBusy = isBusy || !net.notifications.take().isEmpty
      let isWoken = try loop.runOnce(within: isBusy ? .zero : .seconds(20)) > 0
      try #require(isWoken || isBusy, "no port tells of anything any more")
      net.host.wake()
    }
  }
}
