public import LinuxIO
import Synchronization

/// How much a `ThrottledStore` lets through; nil is without limit. Whatever applies to an operation holds at once.
public struct ThrottleLimits: Equatable, Sendable {
  /// Operations and bytes.
  public struct Share: Equatable, Sendable {
    /// Operations for each second.
    public var operations: TokenBucket.Rate?
    /// Bytes for each second.
    public var bytes: TokenBucket.Rate?

    public init(operations: TokenBucket.Rate? = nil, bytes: TokenBucket.Rate? = nil) {
      self.operations = operations
      self.bytes = bytes
    }
  }

  /// For reads and writes together.
  public var all: Share
  /// For reads alone.
  public var reads: Share
  /// For all that changes the medium alone. What is discarded or zeroed counts as an operation, without bytes.
  public var writes: Share

  public init(all: Share = Share(), reads: Share = Share(), writes: Share = Share()) {
    self.all = all
    self.reads = reads
    self.writes = writes
  }
}

/// A store behind a brake: operations beyond the limits wait for their turn. A flush is never held up.
public final class ThrottledStore: BlockStore {
  private struct State {
    var limits: ThrottleLimits
    var brake: Brake
    /// How often the limits were changed.
    var changeCount = 0
  }

  private let store: any BlockStore
  private let clock: @Sendable () -> UInt64
  private let state: Monitor<State>
  private let changed = WakeUp()
  /// Whether there is any limit, for those that would take the lock to find none.
  private let isBraking: Atomic<Bool>

  public convenience init(_ store: any BlockStore, limits: ThrottleLimits) {
    self.init(store, limits: limits, clock: { MonotonicClock.now })
  }

  /// - Parameter clock: what the tokens flow by, in nanoseconds; who waits does so by the kernel's clock.
  init(_ store: any BlockStore, limits: ThrottleLimits, clock: @escaping @Sendable () -> UInt64) {
    self.store = store
    self.clock = clock
    state = Monitor(State(limits: limits, brake: Brake(limits)))
    isBraking = Atomic(limits != ThrottleLimits())
  }

  /// What is let through. A change holds at once, for operations that are waiting too, and starts with full buckets.
  public var throttle: ThrottleLimits {
    get { state.withLock { $0.limits } }
    set {
      isBraking.store(newValue != ThrottleLimits(), ordering: .releasing)
      state.withLock { (state) in
        state = State(limits: newValue, brake: Brake(newValue), changeCount: state.changeCount + 1)
      }
      changed.wakeAll()
    }
  }

  public var byteCount: UInt64 { store.byteCount }
  public var isReadOnly: Bool { store.isReadOnly }
  public var limits: BlockLimits { store.limits }

  public func resize(toByteCount byteCount: UInt64) throws(StoreError) { try store.resize(toByteCount: byteCount) }

  public func refresh() throws(StoreError) { try store.refresh() }

  public func setExclusive(_ isExclusive: Bool) throws(StoreError) { try store.setExclusive(isExclusive) }

  public func perform(
    _ operation: BlockOperation, _ data: inout BlockData, mayWait: Bool
  ) throws(StoreError) -> Bool {
    guard isBraking.load(ordering: .acquiring), operation != .flush else {
      return try store.perform(operation, &data, mayWait: mayWait)
    }
    let load = Brake.Load(isWrite: operation.isWrite, byteCount: UInt64(data.byteCount))
    if mayWait {
      waitForTurn(load)
      return try store.perform(operation, &data, mayWait: true)
    }
    guard let changeCount = takeAtOnce(load) else { return false }
    let isDone = try store.perform(operation, &data, mayWait: false)
    if !isDone { putBack(load, takenAfter: changeCount) }
    return isDone
  }

  /// Takes the tokens if all are there.
  /// - Returns: nil when they are not; otherwise which limits they were taken under.
  private func takeAtOnce(_ load: Brake.Load) -> Int? {
    state.withLock { (state) in
      let now = clock()
      guard state.brake.delay(of: load, now: now) == 0 else { return nil }
      _ = state.brake.take(load, now: now)
      return state.changeCount
    }
  }

  private func putBack(_ load: Brake.Load, takenAfter changeCount: Int) {
    state.withLock { (state) in
      if state.changeCount == changeCount { state.brake.putBack(load) }
    }
  }

  private func waitForTurn(_ load: Brake.Load) {
    var isMyTurn = false
    while !isMyTurn {
      let (changeCount, moment) = reserve(load)
      let isOutdated = state.wait(on: changed, until: moment) { (state) in
        state.changeCount == changeCount ? nil : true
      }
      isMyTurn = isOutdated == nil
    }
  }

  private func reserve(_ load: Brake.Load) -> (changeCount: Int, moment: UInt64) {
    state.withLock { (state) in
      let delay = state.brake.take(load, now: clock())
      return (state.changeCount, MonotonicClock.moment(after: .nanoseconds(Int64(clamping: delay))))
    }
  }
}

/// The buckets behind the limits.
private struct Brake {
  struct Load {
    let isWrite: Bool
    let byteCount: UInt64
  }

  private struct Lane {
    /// Nil for both.
    let isForWrites: Bool?
    let countsBytes: Bool
    var bucket: TokenBucket

    /// How many tokens the load costs here; nil when it is none of this bucket's business.
    func cost(of load: Load) -> UInt64? {
      guard isForWrites == nil || isForWrites == load.isWrite else { return nil }
      return countsBytes ? load.byteCount : 1
    }
  }

  private var lanes: [Lane] = []

  init(_ limits: ThrottleLimits) {
    for (share, isForWrites) in [(limits.all, nil), (limits.reads, false), (limits.writes, true)] as [Choice] {
      for (rate, countsBytes) in [(share.operations, false), (share.bytes, true)] {
        guard let rate else { continue }
        lanes.append(Lane(isForWrites: isForWrites, countsBytes: countsBytes, bucket: TokenBucket(rate)))
      }
    }
  }

  private typealias Choice = (ThrottleLimits.Share, isForWrites: Bool?)

  func delay(of load: Load, now: UInt64) -> UInt64 {
    lanes.reduce(0) { (longest, lane) in
      max(longest, lane.cost(of: load).map { lane.bucket.delay(of: $0, now: now) } ?? 0)
    }
  }

  mutating func take(_ load: Load, now: UInt64) -> UInt64 {
    let delay = delay(of: load, now: now)
    for index in lanes.indices {
      if let cost = lanes[index].cost(of: load) { _ = lanes[index].bucket.take(cost, now: now) }
    }
    return delay
  }

  mutating func putBack(_ load: Load) {
    for index in lanes.indices {
      if let cost = lanes[index].cost(of: load) { lanes[index].bucket.putBack(cost) }
    }
  }
}
