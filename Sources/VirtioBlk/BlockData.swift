public import GuestRAM
public import LinuxIO

/// The data of one request: guest memory that a store reads from or stores into, without a copy in between.
///
/// One value serves any number of requests without allocating. Its bytes are counted from 0 over all buffers.
public struct BlockData: ~Copyable {
  /// How many bytes there are.
  public private(set) var byteCount = 0

  private var memory: GuestMemory?
  private var buffers: [GuestBuffer] = []
  private var vectors: IOVectors

  /// - Parameter capacity: how many stretches of memory one transfer may have.
  public init(capacity: Int = IOVectors.largestCapacity) {
    vectors = IOVectors(capacity: capacity)
  }

  /// Takes the buffers of the next request.
  /// - Parameter byteCount: how many of the buffers' bytes are data.
  public mutating func load(_ buffers: [GuestBuffer], byteCount: Int, of memory: GuestMemory) {
    self.buffers = buffers
    self.byteCount = byteCount
    self.memory = memory
  }

  /// Lets go of the memory.
  public mutating func unload() {
    memory = nil
    buffers = []
    byteCount = 0
  }

  /// Lends a part to a call that stores into it. What it stored counts as written by the device.
  /// - Parameter body: returns how many bytes it stored, from the front.
  public mutating func fill(
    _ part: Range<Int>, _ body: (borrowing IOVectors) throws(StoreError) -> Int
  ) throws(StoreError) -> Int {
    guard let memory else { return 0 }
    do throws(TransferError<StoreError>) {
      return try memory.fill(buffers, part: part, using: &vectors, body)
    } catch {
      throw StoreError(error)
    }
  }

  /// Lends a part to a call that reads from it.
  /// - Parameter body: returns how many bytes it took, from the front.
  public mutating func drain(
    _ part: Range<Int>, _ body: (borrowing IOVectors) throws(StoreError) -> Int
  ) throws(StoreError) -> Int {
    guard let memory else { return 0 }
    do throws(TransferError<StoreError>) {
      return try memory.drain(buffers, part: part, using: &vectors, body)
    } catch {
      throw StoreError(error)
    }
  }

  /// A copy of a part. The caller bounds its length.
  public mutating func bytes(_ part: Range<Int>) throws(StoreError) -> [UInt8] {
    var copy: [UInt8] = []
    _ = try drain(part) { (vectors) in
      copy = vectors.copyBytes()
      return copy.count
    }
    return copy
  }

  /// Stores bytes, beginning at byte `offset`.
  public mutating func store(_ bytes: [UInt8], at offset: Int) throws(StoreError) {
    _ = try fill(offset..<offset + bytes.count) { (vectors) in vectors.storeBytes(bytes) }
  }

  /// Fills a part with zeros.
  public mutating func zero(_ part: Range<Int>) throws(StoreError) {
    _ = try fill(part) { (vectors) in vectors.zero() }
  }
}

extension StoreError {
  init(_ error: TransferError<StoreError>) {
    switch error {
    case .memory(let error): self = .memory(error)
    case .transfer(let error): self = error
    }
  }
}
