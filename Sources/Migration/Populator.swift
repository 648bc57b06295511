import GuestRAM
import LinuxIO

/// Threads that put host memory behind pages before their data comes: the first touch of a page costs more than all
/// the rest of moving it, and the thread that receives cannot do both.
final class Populator: Sendable {
  private struct Work {
    var ranges: [GuestRange] = []
    var next = 0
    var isOver = false
    var failure: MigrationError?
    /// The threads that may still touch memory.
    var threadCount = 0
  }

  /// Populates a range, and says whether there is a use in doing more.
  typealias Body = @Sendable (GuestRange) throws(GuestMemoryError) -> Bool

  private let mostThreads: Int
  private let body: Body
  private let work = Monitor(Work())
  private let forThreads = WakeUp()
  private let forOwner = WakeUp()

  /// - Parameter threadCount: how many threads there are once there is something to do, as far as the kernel lets them start:
  ///   a touch works all the same.
  init(threadCount: Int, _ body: @escaping Body) {
    mostThreads = max(0, threadCount)
    self.body = body
  }

  /// Has ranges populated, each in one region. Throws what has gone wrong with earlier ones.
  func add(_ ranges: [GuestRange]) throws(MigrationError) {
    let (failure, newThreads) = work.withLock { (work) -> (MigrationError?, Int) in
      guard !work.isOver, mostThreads > 0, !ranges.isEmpty else { return (work.failure, 0) }
      work.ranges.removeFirst(work.next)
      work.next = 0
      work.ranges += ranges
      defer { work.threadCount = mostThreads }
      return (nil, mostThreads - work.threadCount)
    }
    for _ in 0..<newThreads { startThread() }
    forThreads.wakeAll()
    if let failure { throw failure }
  }

  private func startThread() {
    do {
      // It ends by itself once there is no more work; `finish` waits for that.
      _ = try Thread(name: "populate") { [self] in
        while let range = take() { populate(range) }
        leave()
      }
    } catch {
      leave()
    }
  }

  /// Ends the work, and returns once no page gets memory by it any more; what is not populated yet stays so.
  func finish() {
    end()
    _ = work.wait(on: forOwner) { $0.threadCount == 0 ? true : nil }
  }

  private func end(_ failure: MigrationError? = nil) {
    work.withLock { (work) in
      work.failure = work.failure ?? failure
      work.isOver = true
      work.ranges = []
      work.next = 0
    }
    forThreads.wakeAll()
  }

  private func leave() {
    let isLast = work.withLock { (work) in
      work.threadCount -= 1
      return work.threadCount == 0
    }
    // What is left nobody would take.
    if isLast { end() }
    forOwner.wakeAll()
  }

  private func populate(_ range: GuestRange) {
    do throws(GuestMemoryError) {
      if try !body(range) { end() }
    } catch {
      end(.memory(error))
    }
  }

  /// The next range, waited for; nil when the work is over.
  private func take() -> GuestRange? {
    let taken: GuestRange?? = work.wait(on: forThreads) { (work) -> GuestRange?? in
      if work.isOver { return .some(nil) }
      guard work.next < work.ranges.count else { return nil }
      defer { work.next += 1 }
      return .some(work.ranges[work.next])
    }
    return taken ?? nil
  }
}
