import LinuxIO
import Synchronization

/// When a `FaultyStore` misbehaves, and how.
public struct FaultRule: Equatable, Sendable {
  /// The kinds of operations.
  public enum Kind: CaseIterable, Hashable, Sendable {
    case read, write, flush, discard, writeZeroes
  }

  /// Which of the operations that a rule is about it strikes.
  public enum Occurrence: Equatable, Sendable {
    case all
    /// The n-th, and every n-th after it. None for 0.
    case every(UInt64)
    /// The first n.
    case first(UInt64)
    /// Each with this probability, 0 to 1, by the store's seed.
    case probability(Double)
  }

  /// What happens to an operation.
  public enum Effect: Equatable, Sendable {
    /// `StoreError.injected` is thrown and nothing done.
    case failure
    /// The operation is carried out, so much later.
    case delay(Duration)
  }

  public var kinds: Set<Kind>
  /// Operations that touch one of these bytes; all when nil. A flush touches none.
  public var bytes: Range<UInt64>?
  public var occurrence: Occurrence
  public var effect: Effect

  public init(
    _ effect: Effect, of kinds: Set<Kind> = Set(Kind.allCases), in bytes: Range<UInt64>? = nil,
    _ occurrence: Occurrence = .all
  ) {
    self.kinds = kinds
    self.bytes = bytes
    self.occurrence = occurrence
    self.effect = effect
  }

  /// Whether the rule is about an operation; whether it strikes is another question.
  func concerns(_ operation: BlockOperation, byteCount: Int) -> Bool {
    let (kind, range) = operation.kindAndRange(byteCount: byteCount)
    guard kinds.contains(kind) else { return false }
    guard let bytes else { return true }
    return range.overlaps(bytes)
  }
}

extension BlockOperation {
  fileprivate func kindAndRange(byteCount: Int) -> (FaultRule.Kind, Range<UInt64>) {
    func range(from place: UInt64) -> Range<UInt64> { place..<place.saturatingSum(UInt64(byteCount)) }
    return switch self {
    case .read(let place): (.read, range(from: place))
    case .write(let place): (.write, range(from: place))
    case .flush: (.flush, 0..<0)
    case .discard(let range): (.discard, range)
    case .writeZeroes(let range, _): (.writeZeroes, range)
    }
  }
}

extension UInt64 {
  fileprivate func saturatingSum(_ other: UInt64) -> UInt64 {
    let (sum, overflow) = addingReportingOverflow(other)
    return overflow ? .max : sum
  }
}

/// A store that fails and dawdles by rules, to test what stands on it. The same rules, seed and operations in the same
/// order always strike alike.
public final class FaultyStore: BlockStore {
  fileprivate struct State {
    var rules: [FaultRule]
    /// How many operations each rule was about.
    var counts: [UInt64]
    var random: SeededNumbers
  }

  private let store: any BlockStore
  private let state: Monitor<State>
  private let changed = WakeUp()
  /// Whether there is any rule, for those that would take the lock to find none.
  private let hasRules: Atomic<Bool>

  /// - Parameters:
  ///   - rules: all that are about an operation count it; it fails if one says so, after the sum of their delays.
  ///   - seed: what probabilities go by.
  public init(_ store: any BlockStore, rules: [FaultRule], seed: UInt64 = 0) {
    self.store = store
    hasRules = Atomic(!rules.isEmpty)
    state = Monitor(
      State(rules: rules, counts: Array(repeating: 0, count: rules.count), random: SeededNumbers(seed: seed)))
  }

  /// The rules; setting them begins their counts anew and ends the delays of operations that wait.
  public var rules: [FaultRule] {
    get { state.withLock { $0.rules } }
    set {
      hasRules.store(!newValue.isEmpty, ordering: .releasing)
      state.withLock { (state) in
        state.rules = newValue
        state.counts = Array(repeating: 0, count: newValue.count)
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

  /// An operation that a rule is about always waits, so that it is counted once.
  public func perform(
    _ operation: BlockOperation, _ data: inout BlockData, mayWait: Bool
  ) throws(StoreError) -> Bool {
    let byteCount = data.byteCount
    guard hasRules.load(ordering: .acquiring),
      state.withLock({ $0.rules.contains { $0.concerns(operation, byteCount: byteCount) } })
    else {
      return try store.perform(operation, &data, mayWait: mayWait)
    }
    guard mayWait else { return false }
    let (isFailure, delay) = state.withLock { $0.strike(operation, byteCount: byteCount) }
    if delay > .zero { wait(delay) }
    guard !isFailure else { throw .injected }
    return try store.perform(operation, &data, mayWait: true)
  }

  private func wait(_ delay: Duration) {
    let rules = rules
    _ = state.wait(on: changed, until: MonotonicClock.moment(after: delay)) { $0.rules == rules ? nil : true }
  }
}

extension FaultyStore.State {
  fileprivate mutating func strike(_ operation: BlockOperation, byteCount: Int) -> (isFailure: Bool, delay: Duration) {
    var isFailure = false
    var delay = Duration.zero
    for index in rules.indices where rules[index].concerns(operation, byteCount: byteCount) {
      counts[index] += 1
      guard strikes(rules[index].occurrence, count: counts[index]) else { continue }
      switch rules[index].effect {
      case .failure: isFailure = true
      case .delay(let duration): delay += duration
      }
    }
    return (isFailure, delay)
  }

  private mutating func strikes(_ occurrence: FaultRule.Occurrence, count: UInt64) -> Bool {
    switch occurrence {
    case .all: true
    case .every(let period): period > 0 && count % period == 0
    case .first(let number): count <= number
    case .probability(let probability): Double.random(in: 0..<1, using: &random) < probability
    }
  }
}
