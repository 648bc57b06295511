import LinuxIO
import VirtioBlk

/// A store that does what another did when it was recorded.
final class ReplayedStore: BlockStore {
  let isReadOnly: Bool
  let limits: BlockLimits
  private let size: Monitor<UInt64>
  private let outside: ReplayedOutside

  init(_ setup: BlockSetup, _ outside: ReplayedOutside) {
    isReadOnly = setup.isReadOnly
    limits = setup.limits
    size = Monitor(setup.byteCount)
    self.outside = outside
  }

  var byteCount: UInt64 { size.withLock { $0 } }

  func perform(_ operation: BlockOperation, _ data: inout BlockData, mayWait: Bool) throws(StoreError) -> Bool {
    let act = Act(operation, data.byteCount, digest: RecordedStore.digest(operation, &data))
    let answer = try checked(outside.ask(act))
    guard case .read = operation else { return true }
    try data.store(Array(answer.content.prefix(data.byteCount)), at: 0)
    return true
  }

  func resize(toByteCount byteCount: UInt64) throws(StoreError) {
    try change(Act(.setSize, byteCount))
  }

  func refresh() throws(StoreError) {
    try change(Act(.refresh))
  }

  func setExclusive(_ isExclusive: Bool) throws(StoreError) {
    try change(Act(.setExclusive, isExclusive ? 1 : 0))
  }

  private func change(_ act: Act) throws(StoreError) {
    let answer = outside.ask(act)
    if let answer, answer.numbers.count > 2, answer.numbers[2] % 512 == 0 {
      size.withLock { $0 = answer.numbers[2] }
    }
    _ = try checked(answer)
  }

  /// A device that asks for something else fails, and its replay is over.
  private func checked(_ answer: Answer?) throws(StoreError) -> Answer {
    guard let answer, let outcome = StoreOutcome(answer.numbers) else { throw .injected }
    if let error = outcome.error { throw error }
    return answer
  }
}
