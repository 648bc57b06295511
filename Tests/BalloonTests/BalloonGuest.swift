import Balloon
import DeviceState
import GuestRAM
import Support
import VirtioCore
import Virtqueue

/// The feature bits, written down from 5.5.3 and not taken from the device.
enum Bit {
  static let mustTellHost: UInt64 = 1 << 0
  static let statistics: UInt64 = 1 << 1
  static let deflateOnOutOfMemory: UInt64 = 1 << 2
  static let hint: UInt64 = 1 << 3
  static let poison: UInt64 = 1 << 4
  static let reporting: UInt64 = 1 << 5
  static let all: UInt64 = 0x3F
  static let version1: UInt64 = 1 << 32
}

/// A clock that a test sets.
final class TestClock {
  var now: UInt64 = 1_000_000_000_000
}

/// What a device told its driver.
final class Notifications {
  var all: [DeviceNotification] = []
}

/// A driver of the balloon, with its rings in real guest memory and the device at the other end.
final class BalloonGuest<Reclaimer: PageReclaimer> {
  let memory: GuestMemory
  let clock: TestClock
  let notifications = Notifications()
  var host: DeviceHost<BalloonDevice<Reclaimer>>
  var rings: [Int: RingFixture] = [:]
  /// Where the next buffer goes.
  private var heap: UInt64

  /// The queues when everything was negotiated.
  static var inflate: Int { 0 }
  static var deflate: Int { 1 }
  static var statistics: Int { 2 }
  static var hinting: Int { 3 }
  static var reporting: Int { 4 }

  /// Rings lie in the first MiB, buffers in the second.
  static var firstFreePage: UInt32 { 512 }

  /// A guest whose driver took the steps of 3.1.1 up to DRIVER_OK.
  init(
    reclaimer: Reclaimer, options: BalloonOptions = BalloonOptions(), accepting: UInt64 = Bit.all,
    poisonValue: UInt32 = 0, memory: GuestMemory? = nil, clock: TestClock = TestClock()
  ) throws {
    self.memory = try memory ?? GuestMemory(byteCount: 32 << 20)
    self.clock = clock
    heap = 1 << 20
    host = Self.host(reclaimer, options, clock, notifications)
    try host.attach(self.memory)
    try host.writeStatus([.acknowledge])
    try host.writeStatus([.acknowledge, .driver])
    host.writeFeatures(
      Features(low: accepting & host.offeredFeatures.low | Bit.version1).intersection(host.offeredFeatures))
    try host.writeStatus([.acknowledge, .driver, .featuresOK])
    for index in 0..<5 {
      let ring = try RingFixture(
        size: index == 4 ? 32 : 64, memory: self.memory, at: 0x1000 + UInt64(index) * 0x10000, indirectCapacity: 8)
      rings[index] = ring
      try host.startQueue(index, ring.configuration())
    }
    if poisonValue != 0 { try host.writeConfig(Self.bytes(poisonValue), at: 12) }
    try host.writeStatus([.acknowledge, .driver, .featuresOK, .driverOK])
    // A host that cannot know what was signalled before notifies once of each queue; that is not what is tested here.
    for index in 0..<5 { host.kick(index) }
    notifications.all = []
  }

  private static func host(
    _ reclaimer: Reclaimer, _ options: BalloonOptions, _ clock: TestClock, _ notifications: Notifications
  ) -> DeviceHost<BalloonDevice<Reclaimer>> {
    DeviceHost(BalloonDevice(options, reclaimer: reclaimer, clock: { clock.now })) { notifications.all.append($0) }
  }

  static func bytes<T: FixedWidthInteger>(_ value: T) -> [UInt8] {
    (0..<T.bitWidth / 8).map { UInt8(truncatingIfNeeded: value >> (8 * $0)) }
  }

  /// Puts bytes somewhere in guest memory, for the device to read.
  func store(_ bytes: [UInt8]) throws -> UInt64 {
    if heap + UInt64(bytes.count) > 2 << 20 { heap = 1 << 20 }
    defer { heap += UInt64(bytes.count + 7) / 8 * 8 }
    try memory.write(bytes: bytes, at: GuestAddress(heap))
    return heap
  }

  /// Sends buffers, kicks, and takes back what the device used; nil when it kept the chain.
  @discardableResult
  func send(_ buffers: [RingFixture.Buffer], to index: Int) throws -> RingFixture.UsedElement? {
    try rings[index]?.send(buffers)
    host.kick(index)
    return try rings[index]?.takeUsed()
  }

  /// Sends readable bytes.
  @discardableResult
  func send(bytes: [UInt8], to index: Int) throws -> RingFixture.UsedElement? {
    try send([.readable(store(bytes), UInt32(bytes.count))], to: index)
  }

  @discardableResult
  func send(frames: [UInt32], to index: Int) throws -> RingFixture.UsedElement? {
    try send(bytes: frames.flatMap(Self.bytes), to: index)
  }

  /// Sends statistics as entries of ten bytes.
  @discardableResult
  func send(statistics: [(UInt16, UInt64)]) throws -> RingFixture.UsedElement? {
    try send(bytes: statistics.flatMap { Self.bytes($0) + Self.bytes($1) }, to: Self.statistics)
  }

  func config(at offset: Int) -> UInt32 {
    host.readConfig(at: offset, byteCount: 4).reversed().reduce(0) { $0 << 8 | UInt32($1) }
  }

  /// Saves the device and goes on with another one, over the same memory and rings.
  func move(to reclaimer: Reclaimer, options: BalloonOptions = BalloonOptions(), after nanoseconds: UInt64 = 0) throws {
    let bytes = try save()
    clock.now &+= nanoseconds
    host = Self.host(reclaimer, options, clock, notifications)
    try host.attach(memory)
    var snapshot = try Snapshot(decoding: bytes)
    try host.restore(from: &snapshot)
    try snapshot.checkAllTaken()
    host.resume()
  }

  func save() throws -> [UInt8] {
    host.pause()
    var snapshot = Snapshot()
    try host.save(into: &snapshot)
    return snapshot.encoded()
  }
}

/// A reclaimer that only writes down what it is told.
struct Recorder: PageReclaimer {
  enum Event: Equatable {
    case gaveUp(GuestRange)
    case released(GuestRange)
    case tookBack(GuestRange)
    case reset
  }

  var events: [Event] = []
  /// What to answer with instead of doing as told.
  var failure: GuestMemoryError?
  /// Called before each event.
  var look: () -> Void = {}

  mutating func giveUp(_ range: GuestRange, of memory: GuestMemory) throws(GuestMemoryError) -> UInt64 {
    look()
    events.append(.gaveUp(range))
    if let failure { throw failure }
    return range.byteCount
  }

  mutating func release(_ range: GuestRange, of memory: GuestMemory) throws(GuestMemoryError) -> UInt64 {
    look()
    events.append(.released(range))
    if let failure { throw failure }
    return range.byteCount
  }

  mutating func takeBack(_ range: GuestRange, of memory: GuestMemory) {
    look()
    events.append(.tookBack(range))
  }

  mutating func reset() {
    events.append(.reset)
  }
}

/// So many 4 KiB pages from a page number on.
func pages(_ first: UInt64, _ count: UInt64 = 1) -> GuestRange {
  GuestRange(start: GuestAddress(first * 4096), byteCount: count * 4096)
}
