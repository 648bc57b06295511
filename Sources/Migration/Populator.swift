import GuestRAM
import LinuxIO
import Synchronization

/// Threads that put host memory behind pages before their data comes: the first touch of a page costs more than all
/// the rest of moving it, and the thread that receives cannot do both.
final class Populator: Sendable {
  private struct Work {
    var ranges: [GuestRange] = []
    var next = 0
    var isOver = false
    var failure: MigrationError?
  }

  private let guest: GuestMemory
  private let work = Mutex(Work())
  private let wakeUp: Eventfd

  /// Starts so many threads.
  static func start(_ guest: GuestMemory, threadCount: Int) throws(MigrationError) -> Populator {
    do {
      let populator = Populator(guest, try Eventfd())
      // Each thread ends by itself, soon after `finish`.
      for _ in 0..<max(0, threadCount) { _ = try Thread(name: "populate") { populator.run() } }
      return populator
    } catch {
      throw .system(error)
    }
  }

  private init(_ guest: GuestMemory, _ wakeUp: consuming Eventfd) {
    self.guest = guest
    self.wakeUp = wakeUp
  }

  /// Has ranges populated, each in one region. Throws what has gone wrong with earlier ones.
  func add(_ ranges: [GuestRange]) throws(MigrationError) {
    let failure = work.withLock { (work) in
      work.ranges.removeFirst(work.next)
      work.next = 0
      work.ranges += ranges
      return work.failure
    }
    wakeUp.signal()
    if let failure { throw failure }
  }

  /// Lets the threads end; what is not populated yet stays so.
  func finish() {
    work.withLock { $0.isOver = true }
    wakeUp.signal()
  }

  private func run() {
    while waitForWork() {
      while let range = take() { populate(range) }
    }
  }

  private func populate(_ range: GuestRange) {
    do {
      // Without the kernel's help there is nothing to do ahead.
      guard try inGuestMemory({ () throws(GuestMemoryError) in try guest.populate(range) }) else { return finish() }
    } catch {
      fail(error)
    }
  }

  /// Whether there may be work. One thread at a time hears a signal, and passes it on.
  private func waitForWork() -> Bool {
    do {
      _ = try wakeUp.descriptor.readBytes(exactly: 8)
    } catch {
      fail(.system(error))
    }
    let (isOver, isMore) = work.withLock { ($0.isOver, $0.ranges.count - $0.next > 1) }
    if isOver || isMore { wakeUp.signal() }
    return !isOver
  }

  private func take() -> GuestRange? {
    work.withLock { (work) in
      guard !work.isOver, work.next < work.ranges.count else { return nil }
      defer { work.next += 1 }
      return work.ranges[work.next]
    }
  }

  private func fail(_ error: MigrationError) {
    work.withLock { $0.failure = $0.failure ?? error }
    finish()
  }
}
