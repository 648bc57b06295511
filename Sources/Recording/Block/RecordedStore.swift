import DeviceState
import VirtioBlk

/// A store that writes down what it is asked and what comes of it: of reads the data, of writes their checksum.
final class RecordedStore: BlockStore {
  private let base: any BlockStore
  private let recorder: Recorder

  init(_ base: any BlockStore, recorder: Recorder) {
    self.base = base
    self.recorder = recorder
  }

  var byteCount: UInt64 { base.byteCount }
  var isReadOnly: Bool { base.isReadOnly }
  var limits: BlockLimits { base.limits }

  /// It always waits, so that what a device does next does not depend on the time.
  func perform(_ operation: BlockOperation, _ data: inout BlockData, mayWait: Bool) throws(StoreError) -> Bool {
    let act = Act(operation, data.byteCount, digest: Self.digest(operation, &data))
    do throws(StoreError) {
      _ = try base.perform(operation, &data, mayWait: true)
    } catch {
      recorder.note(act, Answer(StoreOutcome(error).numbers))
      throw error
    }
    recorder.note(act, Answer(StoreOutcome.done.numbers, content: try content(operation, &data)))
    return true
  }

  func resize(toByteCount byteCount: UInt64) throws(StoreError) {
    try change(Act(.setSize, byteCount)) { () throws(StoreError) in try base.resize(toByteCount: byteCount) }
  }

  func refresh() throws(StoreError) {
    try change(Act(.refresh)) { () throws(StoreError) in try base.refresh() }
  }

  func setExclusive(_ isExclusive: Bool) throws(StoreError) {
    try change(Act(.setExclusive, isExclusive ? 1 : 0)) { () throws(StoreError) in try base.setExclusive(isExclusive) }
  }

  /// Does what may change the size.
  private func change(_ act: Act, _ body: () throws(StoreError) -> Void) throws(StoreError) {
    do throws(StoreError) {
      try body()
    } catch {
      recorder.note(act, Answer(StoreOutcome(error).numbers + [base.byteCount]))
      throw error
    }
    recorder.note(act, Answer(StoreOutcome.done.numbers + [base.byteCount]))
  }

  private func content(_ operation: BlockOperation, _ data: inout BlockData) throws(StoreError) -> [UInt8] {
    guard case .read = operation else { return [] }
    guard data.byteCount <= TapeLimits.contentByteCount else {
      recorder.fail(.tooMuch("bytes of one read", count: data.byteCount, limit: TapeLimits.contentByteCount))
      return []
    }
    return try data.bytes(0..<data.byteCount)
  }

  /// The checksum of what is to be written; 0 where the driver's buffers are not memory.
  static func digest(_ operation: BlockOperation, _ data: inout BlockData) -> UInt32 {
    guard case .write = operation else { return 0 }
    var digest: UInt32 = 0
    do throws(StoreError) {
      for start in stride(from: 0, to: data.byteCount, by: 1 << 16) {
        let part = start..<min(start + (1 << 16), data.byteCount)
        digest = CRC32C.checksum(try data.bytes(part), after: digest)
      }
      return digest
    } catch {
      return 0
    }
  }
}

extension Act {
  init(_ operation: BlockOperation, _ byteCount: Int, digest: UInt32) {
    switch operation {
    case .read(let place): self.init(.read, place, UInt64(byteCount))
    case .write(let place): self.init(.write, place, UInt64(byteCount), UInt64(digest))
    case .flush: self.init(.flush)
    case .discard(let range): self.init(.discard, range.lowerBound, UInt64(range.count))
    case .writeZeroes(let range, let mayUnmap):
      self.init(.writeZeroes, range.lowerBound, UInt64(range.count), mayUnmap ? 1 : 0)
    }
  }
}
