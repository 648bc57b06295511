import GuestRAM
import LinuxIO

/// Threads that put received pages into their places while the next ones are being received.
///
/// To store pages costs a destination more than to receive and check them. A thread that did both would have the source
/// wait for it most of the time, and the two might share one processor, since each wakes the other. When the threads do
/// not keep up, the one that receives lends a hand.
final class StoringThreads: Sendable {
  /// What is stored, and where it has been received.
  private struct Parcel {
    let pages: PageFrame
    let stage: PageStage
  }

  private struct Work {
    var parcels: [Parcel] = []
    var freeStages: [PageStage] = []
    var stageCount = 0
    var isOver = false
    var failure: MigrationError?
    /// The parcels that somebody stores at the moment.
    var storingCount = 0
    var threadCount = 0
    var mostThreads = 0
  }

  typealias Store = @Sendable (PageFrame, PageStage) throws(MigrationError) -> Void

  /// Enough to go on while a thread wakes up, little enough to stay in the processor's cache.
  private static let mostStages = 6

  private let store: Store
  private let work: Monitor<Work>
  private let forThreads = WakeUp()
  private let forOwner = WakeUp()

  /// - Parameters:
  ///   - threadCount: how many threads help, which start when there is something to do, as far as the kernel lets them;
  ///     with 0 the owner does all.
  ///   - store: puts pages where they belong.
  init(threadCount: Int, _ store: @escaping Store) {
    work = Monitor(Work(mostThreads: max(0, threadCount)))
    self.store = store
  }

  // MARK: - The owner's side

  /// Where to receive the next pages, once there is room. Throws what has gone wrong with earlier ones.
  func takeStage() throws(MigrationError) -> PageStage {
    while true {
      let isNew = try work.withLock { (work) throws(MigrationError) -> Bool in
        if let failure = work.failure { throw failure }
        guard work.freeStages.isEmpty, work.stageCount < Self.mostStages else { return false }
        work.stageCount += 1
        return true
      }
      if isNew { return try PageStage() }
      if let stage = work.withLock({ $0.freeStages.popLast() }) { return stage }
      if !storeNext() { awaitStored { !$0.freeStages.isEmpty } }
    }
  }

  /// Has pages stored that have been received; the stage is not the owner's any more.
  func add(_ pages: PageFrame, from stage: PageStage) {
    let needsThread = work.withLock { (work) in
      work.parcels.append(Parcel(pages: pages, stage: stage))
      guard work.threadCount < work.mostThreads, !work.isOver else { return false }
      work.threadCount += 1
      return true
    }
    if needsThread { startThread() } else { forThreads.wakeAll() }
  }

  /// Returns once all that was added is in its place. Throws what has gone wrong.
  func settle() throws(MigrationError) {
    while storeNext() {}
    awaitStored { $0.storingCount == 0 }
    if let failure = work.withLock({ $0.failure }) { throw failure }
  }

  /// Ends the threads, and returns once nobody stores anything any more.
  func finish() {
    work.withLock { (work) in
      work.isOver = true
      work.parcels = []
    }
    forThreads.wakeAll()
    awaitStored { $0.threadCount == 0 }
  }

  private func awaitStored(_ isDone: (inout Work) -> Bool) {
    _ = work.wait(on: forOwner) { isDone(&$0) ? true : nil }
  }

  // MARK: - The threads' side

  private func startThread() {
    do throws(LinuxError) {
      _ = try Thread(name: "store") { [self] in
        while awaitParcel() { _ = storeNext() }
        leave()
      }
    } catch {
      // The others and the owner do it without this one.
      work.withLock { $0.mostThreads = $0.threadCount - 1 }
      leave()
      forThreads.wakeAll()
    }
  }

  private func leave() {
    work.withLock { $0.threadCount -= 1 }
    forOwner.wakeAll()
  }

  /// - Returns: false at the end.
  private func awaitParcel() -> Bool {
    work.wait(on: forThreads) { (work) in
      if work.isOver { return false }
      return work.parcels.isEmpty ? nil : true
    } ?? false
  }

  /// Stores what has waited longest.
  /// - Returns: false when nothing waits.
  private func storeNext() -> Bool {
    let parcel = work.withLock { (work) -> Parcel? in
      guard !work.parcels.isEmpty else { return nil }
      work.storingCount += 1
      return work.parcels.removeFirst()
    }
    guard let parcel else { return false }
    var failure: MigrationError?
    do throws(MigrationError) { try store(parcel.pages, parcel.stage) } catch { failure = error }
    work.withLock { (work) in
      work.storingCount -= 1
      work.freeStages.append(parcel.stage)
      work.failure = work.failure ?? failure
    }
    forOwner.wakeAll()
    return true
  }
}
