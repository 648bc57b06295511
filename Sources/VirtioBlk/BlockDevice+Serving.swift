import GuestRAM
public import VirtioCore
public import Virtqueue

/// Taking requests and answering them.
extension BlockDevice {
  /// How much is done before the driver gets its answers, of which it may make new requests meanwhile.
  private static var batchCount: Int { 4 }
  private static var batchByteCount: Int { 512 << 10 }

  public mutating func serve(_ index: Int, of queues: inout QueueSet) throws(VirtqueueError) {
    let memory = queues.memory
    if try serveBatch(index, &queues[index], memory) { queues.serveNext(index) }
  }

  /// - Returns: whether there may be more.
  private mutating func serveBatch(
    _ index: Int, _ queue: inout SplitVirtqueue, _ memory: GuestMemory
  ) throws(VirtqueueError) -> Bool {
    var count = 0
    var byteCount = 0
    while let chain = try queue.next() {
      byteCount += try serve(chain, index, &queue, memory)
      count += 1
      if count == Self.batchCount || byteCount >= Self.batchByteCount { return true }
    }
    return false
  }

  /// The workers have finished something.
  public mutating func wake(_ queues: inout QueueSet) throws(VirtqueueError) {
    guard let workers else { return }
    var broken: VirtqueueError?
    for completion in workers.takeCompletions() {
      // One whose driver has been reset since has nobody to tell.
      guard let pending = pending.removeValue(forKey: completion.ticket), let chain = pending.takeChain() else {
        continue
      }
      let status = status(of: completion.failure)
      do throws(VirtqueueError) {
        try answer(chain, pending.request, status, &queues[pending.queue], queues.memory)
      } catch {
        // The others were taken too, and nobody would hear of them again.
        broken = broken ?? error
      }
    }
    if let broken { throw broken }
  }

  /// - Returns: how many bytes the request is about.
  private mutating func serve(
    _ taken: consuming DescriptorChain, _ index: Int, _ queue: inout SplitVirtqueue, _ memory: GuestMemory
  ) throws(VirtqueueError) -> Int {
    var chain = taken
    let request = try buffers.receive(&chain)
    let plan = plan(request, memory)
    if let status = attempt(plan, request, memory) {
      try answer(chain, request, status, &queue, memory)
    } else {
      try handOver(plan, PendingRequest(chain, request, queue: index), &queue, memory)
    }
    return request.dataByteCount
  }

  /// Carries a plan out on this thread.
  /// - Returns: nil when it would have to wait, and there are workers who can.
  private mutating func attempt(
    _ plan: BlockPlan, _ request: BlockRequest, _ memory: GuestMemory
  ) -> BlockRequest.Status? {
    switch plan {
    case .answer(let status): return status
    case .perform(let operation): return attempt(operation, request, memory, mayWait: workers == nil)
    case .performAll(let operations): return workers == nil ? attempt(operations, request, memory) : nil
    }
  }

  private mutating func attempt(
    _ operations: [BlockOperation], _ request: BlockRequest, _ memory: GuestMemory
  ) -> BlockRequest.Status? {
    for operation in operations {
      let status = attempt(operation, request, memory, mayWait: true)
      if status != .done { return status }
    }
    return status(of: nil)
  }

  private mutating func attempt(
    _ operation: BlockOperation, _ request: BlockRequest, _ memory: GuestMemory, mayWait: Bool
  ) -> BlockRequest.Status? {
    data.load(buffers.data(of: request), byteCount: request.dataByteCount, of: memory)
    defer { data.unload() }
    do throws(StoreError) {
      return try store.perform(operation, &data, mayWait: mayWait) ? status(of: nil) : nil
    } catch {
      return status(of: OperationFailure(operation: operation, reason: error))
    }
  }

  /// Has a worker carry a plan out.
  private mutating func handOver(
    _ plan: BlockPlan, _ request: PendingRequest, _ queue: inout SplitVirtqueue, _ memory: GuestMemory
  ) throws(VirtqueueError) {
    lastTicket += 1
    let job = BlockWorkers.Job(
      ticket: lastTicket, operations: plan.operations, buffers: buffers.data(of: request.request),
      byteCount: request.request.dataByteCount, memory: memory)
    if let workers, workers.submit(job) {
      pending[lastTicket] = request
    } else if let chain = request.takeChain() {
      let status = attempt(plan.operations, request.request, memory) ?? .failed
      try answer(chain, request.request, status, &queue, memory)
    }
  }

  /// Writes the status byte and gives the chain back.
  private mutating func answer(
    _ taken: consuming DescriptorChain, _ request: BlockRequest, _ status: BlockRequest.Status,
    _ queue: inout SplitVirtqueue, _ memory: GuestMemory
  ) throws(VirtqueueError) {
    var chain = taken
    counters.count(request, status)
    if let address = request.statusAddress {
      do throws(GuestMemoryError) { try memory.write(status.rawValue, at: address) } catch { throw .memory(error) }
      // Only what is written from the first byte on counts (2.7.8.2).
      let before = request.writableByteCount
      if before == 0 || status == .done && request.isWritableFilled { chain.didWrite(UInt32(before + 1)) }
    }
    queue.complete(chain)
  }
}

/// A request that a worker has.
final class PendingRequest {
  let queue: Int
  let request: BlockRequest
  private var chain: DescriptorChain?

  init(_ chain: consuming DescriptorChain, _ request: BlockRequest, queue: Int) {
    self.chain = consume chain
    self.request = request
    self.queue = queue
  }

  /// Hands the chain out, once.
  func takeChain() -> DescriptorChain? { chain.take() }
}
