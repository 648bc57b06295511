import GuestRAM
import VirtioCore

/// What is to be done about a request.
enum BlockPlan {
  case answer(BlockRequest.Status)
  case perform(BlockOperation)
  /// One after the other, as long as they succeed.
  case performAll([BlockOperation])

  var operations: [BlockOperation] {
    switch self {
    case .answer: []
    case .perform(let operation): [operation]
    case .performAll(let operations): operations
    }
  }
}

/// What requests ask for, checked (5.2.6).
extension BlockDevice {
  mutating func plan(_ request: BlockRequest, _ memory: GuestMemory) -> BlockPlan {
    guard let type = request.type, request.statusAddress != nil else { return .answer(.failed) }
    guard let kind = request.kind else { return .answer(.unsupported) }
    switch kind {
    case .read: return transfer(request) { .read(at: $0) }
    case .write: return transfer(request) { .write(at: $0) }
    case .flush: return flushFailure == nil && acquire() ? .perform(.flush) : .answer(.failed)
    case .identify: return .answer(identify(memory))
    case .discard, .writeZeroes: return change(request, isDiscard: type == BlockRequest.Kind.discard.rawValue, memory)
    }
  }

  /// Whole sectors that the disk has.
  private mutating func transfer(_ request: BlockRequest, _ operation: (UInt64) -> BlockOperation) -> BlockPlan {
    let (place, overflow) = request.sector.multipliedReportingOverflow(by: 512)
    let length = UInt64(request.dataByteCount)
    let end = store.byteCount
    guard !overflow, length % 512 == 0, place <= end, length <= end - place else { return .answer(.failed) }
    let operation = operation(place)
    return operation.isWrite ? write(.perform(operation)) : acquire() ? .perform(operation) : .answer(.failed)
  }

  /// What changes the medium is followed by a flush where the driver counts on it (5.2.6.2).
  private mutating func write(_ plan: BlockPlan) -> BlockPlan {
    guard !store.isReadOnly, acquire() else { return .answer(.failed) }
    guard isWriteThrough else { return plan }
    return flushFailure == nil ? .performAll(plan.operations + [.flush]) : .answer(.failed)
  }

  /// Answers `VIRTIO_BLK_T_GET_ID`: 20 bytes, padded with zeros.
  private mutating func identify(_ memory: GuestMemory) -> BlockRequest.Status {
    let text = options.identifier.utf8.prefix(20)
    let bytes = Array(text) + [UInt8](repeating: 0, count: 20 - text.count)
    let room = buffers.writable.reduce(0) { $0 + $1.byteCount }
    data.load(buffers.writable, byteCount: room, of: memory)
    defer { data.unload() }
    do throws(StoreError) {
      try data.store(Array(bytes.prefix(room)), at: 0)
      return .done
    } catch {
      return .failed
    }
  }

  /// Discards and writes of zeros: all segments are checked before any is carried out.
  private mutating func change(_ request: BlockRequest, isDiscard: Bool, _ memory: GuestMemory) -> BlockPlan {
    guard features.contains(isDiscard ? .blockDiscard : .blockWriteZeroes) else { return .answer(.unsupported) }
    let byteCount = request.readableByteCount
    guard byteCount > 0, byteCount % BlockSegment.byteCount == 0 else { return .answer(.failed) }
    guard byteCount / BlockSegment.byteCount <= Int(BlockConfig.mostSegments) else { return .answer(.unsupported) }
    guard let segments = readSegments(byteCount, memory) else { return .answer(.failed) }
    if segments.contains(where: { $0.hasUnknownFlags || isDiscard && $0.mayUnmap }) { return .answer(.unsupported) }
    let end = store.byteCount
    var operations: [BlockOperation] = []
    for segment in segments {
      guard segment.sectorCount <= BlockConfig.mostSectors, let range = segment.range(within: end) else {
        return .answer(.failed)
      }
      // The kernel refuses to change nothing.
      if range.isEmpty { continue }
      operations.append(isDiscard ? .discard(range) : .writeZeroes(range, mayUnmap: segment.mayUnmap))
    }
    return write(operations.count == 1 ? .perform(operations[0]) : .performAll(operations))
  }

  private mutating func readSegments(_ byteCount: Int, _ memory: GuestMemory) -> [BlockSegment]? {
    data.load(buffers.readable, byteCount: byteCount, of: memory)
    defer { data.unload() }
    do throws(StoreError) {
      let bytes = try data.bytes(0..<byteCount)
      return stride(from: 0, to: byteCount, by: BlockSegment.byteCount).map { start in
        BlockSegment(bytes[start..<start + BlockSegment.byteCount])
      }
    } catch {
      return nil
    }
  }

  /// What the driver hears of an operation, and what is remembered of its failure.
  mutating func status(of failure: OperationFailure?) -> BlockRequest.Status {
    guard let failure else {
      if trouble != nil { trouble = nil }
      return .done
    }
    if case .memory = failure.reason { return .failed }
    if failure.operation == .flush { flushFailure = flushFailure ?? failure.reason }
    note(failure.reason)
    return failure.reason == .unsupported ? .unsupported : .failed
  }
}
