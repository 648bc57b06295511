import GuestRAM
public import LinuxIO

/// Threads that wait for a store, so that the device's own thread need not.
///
/// They are started as they are needed, and kept.
public final class BlockWorkers: Sendable {
  /// A request on its way through a thread.
  struct Job: Sendable {
    /// What its sender knows it by.
    let ticket: UInt64
    let operations: [BlockOperation]
    let buffers: [GuestBuffer]
    let byteCount: Int
    let memory: GuestMemory
  }

  /// What came of a job.
  struct Completion: Sendable {
    let ticket: UInt64
    let failure: OperationFailure?
  }

  private struct Desk {
    var jobs: [Job] = []
    /// The tickets of those that a thread is at.
    var begun: Set<UInt64> = []
    var completions: [Completion] = []
    var threadCount = 0
    var idleCount = 0
    var isStopping = false
  }

  private let store: any BlockStore
  private let most: Int
  private let onCompletion: @Sendable () -> Void
  private let desk = Monitor(Desk())
  private let ended = WakeUp()
  private let arrivals: Semaphore
  private let departures: Semaphore

  /// - Parameters:
  ///   - most: how many threads there may be: how many requests the store is asked at a time, at least 1.
  ///   - onCompletion: called on some thread when there is something to take; it should have the device's thread wake it.
  public init(
    _ store: any BlockStore, most: Int = 16, onCompletion: @escaping @Sendable () -> Void
  ) throws(LinuxError) {
    self.store = store
    self.most = max(1, most)
    self.onCompletion = onCompletion
    arrivals = try Semaphore()
    departures = try Semaphore()
  }

  /// Hands a job to the next thread that is free.
  /// - Returns: false when there is no thread at all, since the kernel makes none or they have been stopped.
  func submit(_ job: Job) -> Bool {
    let needsThread: Bool? = desk.withLock { desk in
      guard !desk.isStopping else { return nil }
      desk.jobs.append(job)
      guard desk.jobs.count > desk.idleCount, desk.threadCount < most else { return false }
      desk.threadCount += 1
      return true
    }
    guard let needsThread, !needsThread || startThread() else { return false }
    arrivals.signal()
    return true
  }

  private func startThread() -> Bool {
    do throws(LinuxError) {
      _ = try Thread(name: "block worker") { [self] in work() }
      return true
    } catch {
      // Those that there are will do it, if later.
      return desk.withLock { desk in
        desk.threadCount -= 1
        if desk.threadCount == 0 { desk.jobs = [] }
        return desk.threadCount > 0
      }
    }
  }

  /// Takes what has been done since the last time.
  func takeCompletions() -> [Completion] {
    desk.withLock { desk in
      defer { desk.completions = [] }
      return desk.completions
    }
  }

  /// Takes jobs back, so that nothing comes of them any more: what no thread has begun is dropped, and what one is at is
  /// waited for.
  func withdraw(_ tickets: Set<UInt64>) {
    desk.withLock { desk in desk.jobs.removeAll { tickets.contains($0.ticket) } }
    _ = desk.wait(on: ended) { desk in desk.begun.isDisjoint(with: tickets) ? true : nil }
    desk.withLock { desk in desk.completions.removeAll { tickets.contains($0.ticket) } }
  }

  /// Ends the threads once they have done what there is to do, and waits for them.
  public func stop() {
    let count = desk.withLock { desk in
      desk.isStopping = true
      defer { desk.threadCount = 0 }
      return desk.threadCount
    }
    arrivals.signal(count)
    for _ in 0..<count { departures.wait() }
  }

  private func work() {
    var data = BlockData()
    while let job = nextJob() {
      data.load(job.buffers, byteCount: job.byteCount, of: job.memory)
      finish(Completion(ticket: job.ticket, failure: failure(of: job, &data)))
      data.unload()
    }
    departures.signal()
  }

  private func failure(of job: Job, _ data: inout BlockData) -> OperationFailure? {
    for operation in job.operations {
      do throws(StoreError) {
        _ = try store.perform(operation, &data, mayWait: true)
      } catch {
        return OperationFailure(operation: operation, reason: error)
      }
    }
    return nil
  }

  /// Waits for the next job; nil when it is time to end.
  private func nextJob() -> Job? {
    desk.withLock { $0.idleCount += 1 }
    while true {
      arrivals.wait()
      let (job, isOver) = desk.withLock { desk -> (Job?, Bool) in
        let job = desk.jobs.isEmpty ? nil : desk.jobs.removeFirst()
        let isOver = job == nil && desk.isStopping
        if job != nil || isOver { desk.idleCount -= 1 }
        if let job { desk.begun.insert(job.ticket) }
        return (job, isOver)
      }
      if isOver { return nil }
      if let job { return job }
    }
  }

  private func finish(_ completion: Completion) {
    desk.withLock { desk in
      desk.begun.remove(completion.ticket)
      desk.completions.append(completion)
    }
    ended.wakeAll()
    // Each time, and not only for the first: nobody may have come for the one before.
    onCompletion()
  }
}
