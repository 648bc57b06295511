import DeviceState
import Support
import Testing
import VirtioBlk
import VirtioCore

@Suite("5.2.6.2 Block device: durability") struct BlockDeviceDurabilityTests {
  private static let data = [UInt8](repeating: 7, count: 512)
  private static let noFlush = Bit.all & ~Bit.flush

  /// Everything that changes the medium, and what it is there.
  private static func askAll(_ guest: BlockGuest) throws -> [UInt8?] {
    [
      try guest.status(Type.write, data), try guest.status(Type.discard, BlockGuest.segment(0, 1)),
      try guest.status(Type.writeZeroes, BlockGuest.segment(0, 1) + BlockGuest.segment(1, 1)),
    ]
  }

  private static let changes: [[BlockOperation]] = [
    [.write(at: 0)], [.discard(0..<512)],
    [.writeZeroes(0..<512, mayUnmap: false), .writeZeroes(512..<1024, mayUnmap: false)],
  ]

  @Test(
    "5.2.6.2: a driver that could flush and does not take the feature finds each write on the medium",
    arguments: [Bit.all & ~Bit.flush & ~Bit.configurableWriteback, noFlush])
  func declined(accepting: UInt64) throws {
    let store = RecordingStore()
    let guest = try BlockGuest(store, accepting: accepting)
    #expect(try Self.askAll(guest) == [0, 0, 0])
    #expect(store.takeLog() == Self.changes.flatMap { $0 + [.flush] })
    #expect(try guest.status(Type.read, room: 512) == Status.done)
    #expect(store.takeLog() == [.read(at: 0)])
  }

  @Test("5.2.6.2: a driver that flushes by itself is not flushed for")
  func negotiated() throws {
    let store = RecordingStore()
    for accepting in [Bit.all, Bit.all & ~Bit.configurableWriteback] {
      let guest = try BlockGuest(store, accepting: accepting)
      #expect(try Self.askAll(guest) == [0, 0, 0])
      #expect(store.takeLog() == Self.changes.flatMap { $0 })
    }
  }

  @Test("5.2.6.2: while writeback is 0, each write is on the medium before the driver hears of it")
  func writeThrough() throws {
    let store = RecordingStore()
    let guest = try BlockGuest(store)
    for (value, flushes): (UInt8, [BlockOperation]) in [(0, [.flush]), (1, []), (0, [.flush])] {
      try guest.bench.host.writeConfig([value], at: 32)
      #expect(try guest.status(Type.write, Self.data) == Status.done)
      #expect(store.takeLog() == [.write(at: 0)] + flushes)
    }
  }

  /// A driver of a transport without the status, whose features are heard of with its first queue only.
  private static func startLate(_ guest: BlockGuest, accepting: UInt64, writing writeback: UInt8?) throws {
    guest.bench.host.reset()
    if let writeback { try guest.bench.host.writeConfig([writeback], at: 32) }
    try guest.bench.startWithoutStatus(Features(low: guest.bench.host.offeredFeatures.low & accepting | Bit.version1))
  }

  @Test("5.2.5.2: a writeback written before the first queue starts holds, for this driver and no other")
  func earlyWriteback() throws {
    let store = RecordingStore()
    let guest = try BlockGuest(store)
    for value: UInt8? in [0, nil, 0, 1] {
      try Self.startLate(guest, accepting: Bit.all, writing: value)
      #expect(guest.bench.host.readConfig(at: 32, byteCount: 1) == [value ?? 1])
      _ = store.takeLog()
      #expect(try guest.status(Type.write, Self.data) == Status.done)
      #expect(store.takeLog() == [.write(at: 0)] + (value == 0 ? [.flush] : []))
    }
  }

  @Test("5.2.5.2: a writeback that the next driver wrote before its first queue is kept for it")
  func writebackOfOtherDriver() throws {
    let guest = try BlockGuest(RecordingStore())
    try Self.startLate(guest, accepting: Bit.all, writing: nil)
    _ = try guest.bench.host.stopQueue(0)
    try guest.bench.host.writeConfig([0], at: 32)
    try guest.bench.host.restartModel()
    #expect(guest.bench.host.readConfig(at: 32, byteCount: 1) == [0])
  }

  @Test("5.2.5.2: a writeback written early does not hold for a driver without VIRTIO_BLK_F_CONFIG_WCE")
  func earlyWritebackDeclined() throws {
    let store = RecordingStore()
    let guest = try BlockGuest(store)
    try Self.startLate(guest, accepting: Bit.all & ~Bit.configurableWriteback, writing: 0)
    _ = store.takeLog()
    #expect(try guest.status(Type.write, Self.data) == Status.done)
    #expect(store.takeLog() == [.write(at: 0)])
  }

  @Test("5.2.6.2: a disk that offers no flush promises nothing, and is not flushed but for itself")
  func notOffered() throws {
    var options = BlockOptions()
    options.flush = false
    let store = RecordingStore()
    let guest = try BlockGuest(store, options)
    #expect(try Self.askAll(guest) == [0, 0, 0])
    #expect(store.takeLog() == Self.changes.flatMap { $0 })
  }

  @Test("a flush that failed stays failed, for the kernel forgets what it could not write")
  func failedFlush() throws {
    let store = RecordingStore()
    let guest = try BlockGuest(store)
    store.with { $0.failures = [.flush: .injected] }
    #expect(try guest.status(Type.flush) == Status.failed)
    store.with { $0.failures = [:] }
    _ = store.takeLog()
    #expect(try guest.status(Type.flush) == Status.failed)
    #expect(store.takeLog() == [])
    #expect(guest.bench.host.device.flushFailure == .injected)
    #expect(guest.reports.all == [.injected])
    // What is not promised to be on the medium goes on.
    #expect(try guest.status(Type.write, Self.data) == Status.done)
    #expect(try guest.status(Type.read, room: 512) == Status.done)
  }

  @Test("a failed flush stays failed where the disk goes, and through a driver's reset")
  func failedFlushElsewhere() throws {
    let store = RecordingStore()
    let guest = try BlockGuest(store)
    store.with { $0.failures = [.flush: .injected] }
    #expect(try guest.status(Type.flush) == Status.failed)
    let second = RecordingStore()
    let other = try guest.moved(to: second)
    _ = second.takeLog()
    #expect(try other.status(Type.flush) == Status.failed)
    #expect(second.takeLog() == [])
    #expect(other.bench.host.device.flushFailure == .flushFailedElsewhere)
    try guest.bench.host.writeStatus([])
    #expect(guest.bench.host.device.flushFailure == .injected)
    #expect(guest.bench.host.device.state.flushFailed)
  }

  @Test("a write-through disk on which a flush failed takes no more writes, and is read")
  func failedWriteThrough() throws {
    let store = RecordingStore()
    let guest = try BlockGuest(store, accepting: Self.noFlush)
    store.with { $0.failures = [.flush: .injected] }
    #expect(try guest.status(Type.write, Self.data) == Status.failed)
    store.with { $0.failures = [:] }
    _ = store.takeLog()
    #expect(try Self.askAll(guest) == [1, 1, 1])
    #expect(store.takeLog() == [])
    #expect(try guest.status(Type.read, room: 512) == Status.done)
  }

  @Test(
    "a write-through disk goes on after what was no failed flush",
    arguments: [RecordingStore.Kind.read, .write, .discard, .writeZeroes], [StoreError.injected, .unsupported])
  func otherFailures(kind: RecordingStore.Kind, failure: StoreError) throws {
    let store = RecordingStore()
    let guest = try BlockGuest(store, accepting: Self.noFlush)
    store.with { $0.failures = [kind: failure] }
    _ = try guest.status(Type.read, room: 512)
    _ = try Self.askAll(guest)
    store.with { $0.failures = [:] }
    #expect(guest.bench.host.device.flushFailure == nil)
    #expect(try Self.askAll(guest) == [0, 0, 0])
    #expect(guest.reports.all == [failure])
    #expect(guest.bench.host.device.trouble == nil)
  }

  @Test("who takes the disk over finds everything on the medium: it is flushed when the last queue stops")
  func handOver() throws {
    let store = RecordingStore()
    let guest = try BlockGuest(store)
    #expect(try guest.status(Type.write, Self.data) == Status.done)
    _ = store.takeLog()
    _ = try guest.bench.host.stopQueue(0)
    #expect(store.takeLog() == [.flush])
    #expect(store.with { $0.exclusivity } == [true, false])
  }

  @Test("a flush that fails when the disk is let go of is a failed flush, and the disk is let go of")
  func failedHandOver() throws {
    let store = RecordingStore()
    let guest = try BlockGuest(store)
    store.with { $0.failures = [.flush: .injected] }
    _ = try guest.bench.host.stopQueue(0)
    #expect(store.with { $0.exclusivity } == [true, false])
    #expect(guest.bench.host.device.state.flushFailed)
    #expect(guest.reports.all == [.injected])
  }

  @Test("a read-only disk is not flushed when it is let go of")
  func readOnlyHandOver() throws {
    let store = RecordingStore(isReadOnly: true)
    let guest = try BlockGuest(store)
    _ = try guest.bench.host.stopQueue(0)
    #expect(store.takeLog() == [])
    #expect(store.with { $0.exclusivity } == [true, false])
  }

  @Test("exclusivity is taken with the first queue and given up with the last, or with a reset")
  func exclusivity() throws {
    var options = BlockOptions()
    options.queueCount = 2
    let store = RecordingStore()
    let guest = try BlockGuest(store, options)
    #expect(store.with { $0.exclusivity } == [true])
    _ = try guest.bench.host.stopQueue(0)
    #expect(store.with { $0.exclusivity } == [true])
    try guest.bench.host.resetQueue(1)
    #expect(store.with { $0.exclusivity } == [true, false])
    try guest.bench.host.startQueue(0, guest.bench.rings[0].configuration())
    #expect(store.with { $0.exclusivity } == [true, false, true])
    try guest.bench.host.writeStatus([])
    #expect(store.with { $0.exclusivity } == [true, false, true, false])
    try guest.bench.host.writeStatus([])
    #expect(store.with { $0.exclusivity }.count == 4)
  }

  @Test("while somebody else has the medium requests fail, which is reported once; when it is free they go on")
  func heldElsewhere() throws {
    let store = RecordingStore()
    store.with { $0.isHeldElsewhere = true }
    let guest = try BlockGuest(store)
    #expect(guest.reports.all == [.inUse])
    for _ in 0..<3 {
      #expect(try Self.askAll(guest) == [1, 1, 1])
      #expect(try guest.status(Type.read, room: 512) == Status.failed)
      #expect(try guest.status(Type.flush) == Status.failed)
    }
    #expect(try guest.status(Type.identify, room: 20) == Status.done)
    #expect(guest.reports.all == [.inUse])
    #expect(guest.bench.host.device.trouble == .inUse)
    #expect(store.takeLog() == [])
    store.with { $0.isHeldElsewhere = false }
    #expect(try guest.status(Type.read, room: 512) == Status.done)
    #expect(guest.bench.host.device.trouble == nil)
    #expect(try Self.askAll(guest) == [0, 0, 0])
    #expect(guest.bench.host.device.flushFailure == nil)
    // A disk that was never this device's own is not let go of.
    store.with { $0.exclusivity = [] }
    store.with { $0.isHeldElsewhere = true }
    let second = try BlockGuest(store)
    _ = try second.bench.host.stopQueue(0)
    #expect(store.with { $0.exclusivity } == [true])
  }
}
