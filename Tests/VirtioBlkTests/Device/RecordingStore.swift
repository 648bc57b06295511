import LinuxIO
import Synchronization
import VirtioBlk

/// A disk in an array, which notes what it is asked for and does as it is told.
final class RecordingStore: BlockStore {
  struct State {
    var bytes: [UInt8]
    /// What was carried out, in order.
    var log: [BlockOperation] = []
    /// What the next operations of each kind fail with.
    var failures: [Kind: StoreError] = [:]
    /// Whether the medium is somebody else's.
    var isHeldElsewhere = false
    /// How often exclusivity was taken and given up.
    var exclusivity: [Bool] = []
    /// How many operations were being carried out whenever exclusivity was given up.
    var presentAtRelease: [Int] = []
    /// Whether every operation would have to wait.
    var waits = false
    /// How many operations are being carried out, and were at a time at most.
    var presentCount = 0
    var mostPresentCount = 0
  }

  enum Kind: Hashable {
    case read, write, flush, discard, writeZeroes
  }

  let isReadOnly: Bool
  let limits: BlockLimits
  private let state: Mutex<State>
  /// What those that may wait do wait for.
  private let gate: (@Sendable () -> Void)?

  /// - Parameter gate: called by each operation that may wait, before it does anything.
  init(
    sectorCount: Int = 64, isReadOnly: Bool = false, limits: BlockLimits = BlockLimits(),
    gate: (@Sendable () -> Void)? = nil
  ) {
    self.isReadOnly = isReadOnly
    self.limits = limits
    self.gate = gate
    state = Mutex(State(bytes: (0..<sectorCount * 512).map { UInt8(truncatingIfNeeded: $0 / 512 &+ $0 &* 7) }))
  }

  /// Looks at or changes everything at once.
  func with<Result>(_ body: (inout State) -> Result) -> Result {
    state.withLock { (state) in body(&state) }
  }

  var bytes: [UInt8] { with { $0.bytes } }

  /// Takes what was carried out since the last time.
  func takeLog() -> [BlockOperation] {
    with { (state) in
      defer { state.log = [] }
      return state.log
    }
  }

  var byteCount: UInt64 { UInt64(with { $0.bytes.count }) }

  func perform(_ operation: BlockOperation, _ data: inout BlockData, mayWait: Bool) throws(StoreError) -> Bool {
    guard mayWait || !with({ $0.waits }) else { return false }
    with { (state) in
      state.presentCount += 1
      state.mostPresentCount = max(state.mostPresentCount, state.presentCount)
    }
    defer { with { $0.presentCount -= 1 } }
    if mayWait { gate?() }
    with { $0.log.append(operation) }
    if let failure = with({ $0.failures[operation.kind] }) { throw failure }
    switch operation {
    case .read(let place):
      try data.store(with { Array($0.bytes[Int(place)..<Int(place) + data.byteCount]) }, at: 0)
    case .write(let place):
      let bytes = try data.bytes(0..<data.byteCount)
      with { $0.bytes.replaceSubrange(Int(place)..<Int(place) + bytes.count, with: bytes) }
    case .flush: break
    case .discard(let range): overwrite(range, with: 0xD1)
    case .writeZeroes(let range, _): overwrite(range, with: 0)
    }
    return true
  }

  private func overwrite(_ range: Range<UInt64>, with byte: UInt8) {
    with { $0.bytes.replaceSubrange(Int(range.lowerBound)..<Int(range.upperBound), with: range.map { _ in byte }) }
  }

  func resize(toByteCount byteCount: UInt64) throws(StoreError) {
    with { (state) in
      let old = state.bytes
      state.bytes = (0..<Int(byteCount)).map { old.indices.contains($0) ? old[$0] : 0 }
    }
  }

  func setExclusive(_ isExclusive: Bool) throws(StoreError) {
    let isRefused = with { (state) in
      state.exclusivity.append(isExclusive)
      if !isExclusive { state.presentAtRelease.append(state.presentCount) }
      return isExclusive && state.isHeldElsewhere
    }
    if isRefused { throw .inUse }
  }
}

extension BlockOperation {
  var kind: RecordingStore.Kind {
    switch self {
    case .read: .read
    case .write: .write
    case .flush: .flush
    case .discard: .discard
    case .writeZeroes: .writeZeroes
    }
  }
}
