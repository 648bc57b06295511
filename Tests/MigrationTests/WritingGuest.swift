import GuestRAM
import LinuxIO
import Support

@testable import Migration

/// A guest whose memory a thread of its own writes all the time. The kernel tells what it has written, or comparing does.
final class WritingGuest: LiveGuest {
  static let regions = [pages(0, 512), pages(0x40000, 300)]

  private enum Order { case run, pause, end }

  private struct Desk {
    var order = Order.run
    var isPaused = false
    var roundCount: UInt64 = 0
    var failure: String?
  }

  let memory: GuestMemory
  let sentPages: SentPages?
  private let method: WriteTracker.Method?
  private let desk: Monitor<Desk>
  private let forWriter: WakeUp
  private let forMover: WakeUp
  private var tracker: WriteTracker?
  private var writer: Thread?
  private(set) var share = 1.0

  /// - Parameter method: nil to compare.
  init(_ method: WriteTracker.Method?, seed: UInt64) throws {
    let memory = try GuestMemory(
      regions: Self.regions.map { try MemoryRegion(memoryFile: $0.byteCount, start: $0.start) })
    self.memory = memory
    self.method = method
    sentPages = method == nil ? SentPages(memory) : nil
    let desk = Monitor(Desk())
    let forWriter = WakeUp()
    let forMover = WakeUp()
    (self.desk, self.forWriter, self.forMover) = (desk, forWriter, forMover)
    let body: @Sendable () -> Void = { Self.write(memory, seed: seed, desk, forWriter, forMover) }
    writer = try Thread(name: "guest", body)
    // It is in the middle of its work when it is moved.
    try waitForRounds(20)
  }

  /// Ends the writer, and returns once it writes no more.
  func end() {
    give(.end)
    writer.take()?.join()
  }

  /// Returns once the writer has done so much more.
  func waitForRounds(_ count: UInt64) throws(MigrationError) {
    let target = desk.withLock { $0.roundCount + count }
    try wait { $0.roundCount >= target }
  }

  // MARK: - The writer

  private static func write(
    _ memory: GuestMemory, seed: UInt64, _ desk: Monitor<Desk>, _ forWriter: WakeUp, _ forMover: WakeUp
  ) {
    var generator = SeededGenerator(seed: seed)
    do throws(GuestMemoryError) {
      while mayGoOn(desk, forWriter, forMover) {
        for _ in 0..<64 { try change(memory, &generator) }
      }
    } catch {
      desk.withLock { $0.failure = "\(error)" }
      forMover.wakeAll()
    }
  }

  /// Whether to do another round; waits while the guest is paused.
  private static func mayGoOn(_ desk: Monitor<Desk>, _ forWriter: WakeUp, _ forMover: WakeUp) -> Bool {
    desk.withLock { $0.roundCount += 1 }
    return desk.wait(on: forWriter) { (desk) -> Bool? in
      desk.isPaused = desk.order == .pause
      forMover.wakeAll()
      return desk.isPaused ? nil : desk.order == .run
    } ?? false
  }

  /// Counts in a page, which most of the time is one of a few, or empties one or gives it back.
  private static func change(_ memory: GuestMemory, _ generator: inout SeededGenerator) throws(GuestMemoryError) {
    let region = regions[Int.random(in: 0...1, using: &generator)]
    let isBusy = UInt64.random(in: 0..<8, using: &generator) != 0
    let page = UInt64.random(in: 0..<(isBusy ? 24 : region.byteCount / pageByteCount), using: &generator)
    let range = GuestRange(start: address(region.start.rawValue + page * pageByteCount), byteCount: pageByteCount)
    switch UInt64.random(in: 0..<64, using: &generator) {
    case 0: try memory.write(bytes: [UInt8](repeating: 0, count: Int(pageByteCount)), at: range.start)
    case 1, 2: try memory.discard(range)
    default:
      let counter = address(range.start.rawValue + 8 * UInt64.random(in: 0..<512, using: &generator))
      try memory.write(memory.read(UInt64.self, at: counter) &+ 1, at: counter)
    }
  }

  // MARK: - The engine

  func beginTracking() throws(MigrationError) {
    guard let method else {
      _ = try sentPages?.takeWrites()
      return
    }
    tracker = try inGuestMemory { () throws(GuestMemoryError) in try WriteTracker(memory, method: method) }
  }

  func takeWrites() throws(MigrationError) -> [GuestRange] {
    if let sentPages { return try sentPages.takeWrites() }
    var ranges: [GuestRange] = []
    try inGuestMemory { () throws(GuestMemoryError) in try tracker?.collect { ranges.append($0) } }
    return ranges
  }

  func endTracking() {
    tracker?.stop()
    tracker = nil
  }

  func pause() throws(MigrationError) -> [UInt8] {
    give(.pause)
    try wait { $0.isPaused }
    return [1, 2, 3]
  }

  func resume() { give(.run) }
  func slowDown(to share: Double) { self.share = share }

  private func give(_ order: Order) {
    desk.withLock { $0.order = order }
    forWriter.wakeAll()
  }

  private func wait(until isDone: (Desk) -> Bool) throws(MigrationError) {
    let end = MonotonicClock.moment(after: patience)
    let failure = desk.wait(on: forMover, until: end) { (desk) -> String?? in
      if let failure = desk.failure { return .some(failure) }
      return isDone(desk) ? .some(nil) : nil
    }
    guard let failure else { throw .guest("the writer does nothing") }
    if let failure { throw .guest(failure) }
  }
}
