import GuestRAM
import Virtqueue

/// A request as the driver wrote it (5.2.6): a header, data, and a byte for the status, split over buffers in any way.
struct BlockRequest {
  /// The request types that do something here.
  enum Kind: UInt32 {
    /// `VIRTIO_BLK_T_IN`
    case read = 0
    /// `VIRTIO_BLK_T_OUT`
    case write = 1
    /// `VIRTIO_BLK_T_FLUSH`
    case flush = 4
    /// `VIRTIO_BLK_T_GET_ID`
    case identify = 8
    /// `VIRTIO_BLK_T_DISCARD`
    case discard = 11
    /// `VIRTIO_BLK_T_WRITE_ZEROES`
    case writeZeroes = 13
  }

  /// What the status byte says.
  enum Status: UInt8 {
    /// `VIRTIO_BLK_S_OK`
    case done = 0
    /// `VIRTIO_BLK_S_IOERR`
    case failed = 1
    /// `VIRTIO_BLK_S_UNSUPP`
    case unsupported = 2
  }

  /// The type as it stands in the header; nil when there is no whole header.
  var type: UInt32?
  /// In sectors of 512 bytes.
  var sector: UInt64 = 0
  /// The bytes behind the header.
  var readableByteCount = 0
  /// The bytes before the status.
  var writableByteCount = 0
  /// Where the status goes; nil when the driver left no room for it.
  var statusAddress: GuestAddress?

  var kind: Kind? { type.flatMap(Kind.init) }

  /// How many bytes go to the disk or come from it.
  var dataByteCount: Int {
    switch kind {
    case .read: writableByteCount
    case .write: readableByteCount
    default: 0
    }
  }

  /// Whether the bytes before the status are all written when the request succeeds.
  var isWritableFilled: Bool { kind == .read }
}

/// The buffers of the request that is looked at, in lists that are used again for the next.
struct RequestBuffers {
  var readable: [GuestBuffer] = []
  var writable: [GuestBuffer] = []

  /// Takes a chain apart.
  mutating func receive(_ chain: inout DescriptorChain) throws(VirtqueueError) -> BlockRequest {
    readable.removeAll(keepingCapacity: true)
    writable.removeAll(keepingCapacity: true)
    var request = BlockRequest()
    request.type = try chain.read(UInt32.self)
    // The word behind the type has no meaning any more.
    _ = try chain.read(UInt32.self)
    if let sector = try chain.read(UInt64.self) { request.sector = sector } else { request.type = nil }
    try chain.collect(readable: &readable, writable: &writable)
    request.statusAddress = takeStatus()
    for buffer in readable { request.readableByteCount += buffer.byteCount }
    for buffer in writable { request.writableByteCount += buffer.byteCount }
    return request
  }

  /// The buffers that go to the disk or come from it.
  func data(of request: BlockRequest) -> [GuestBuffer] {
    switch request.kind {
    case .read: writable
    case .write: readable
    default: []
    }
  }

  /// Takes the last writable byte away, which need not be a buffer of its own.
  private mutating func takeStatus() -> GuestAddress? {
    while let last = writable.last, last.byteCount == 0 { writable.removeLast() }
    guard let last = writable.popLast() else { return nil }
    if last.byteCount > 1 { writable.append(GuestBuffer(address: last.address, byteCount: last.byteCount - 1)) }
    return last.address.advanced(by: UInt64(last.byteCount - 1))
  }
}

/// `struct virtio_blk_discard_write_zeroes`: one range of a discard or a write of zeros.
struct BlockSegment {
  static let byteCount = 16
  private static let unmapFlag: UInt32 = 1

  let sector: UInt64
  let sectorCount: UInt32
  let flags: UInt32

  /// - Parameter bytes: 16 of them.
  init(_ bytes: ArraySlice<UInt8>) {
    let words = bytes.indices.reduce(into: [UInt64](repeating: 0, count: 2)) { words, index in
      let place = index - bytes.startIndex
      words[place / 8] |= UInt64(bytes[index]) << UInt64(8 * (place % 8))
    }
    sector = words[0]
    sectorCount = UInt32(truncatingIfNeeded: words[1])
    flags = UInt32(truncatingIfNeeded: words[1] >> 32)
  }

  var mayUnmap: Bool { flags & Self.unmapFlag != 0 }

  var hasUnknownFlags: Bool { flags & ~Self.unmapFlag != 0 }

  /// The bytes of the disk that are meant, or nil when the disk does not have them all.
  func range(within byteCount: UInt64) -> Range<UInt64>? {
    let (start, overflow) = sector.multipliedReportingOverflow(by: 512)
    let length = UInt64(sectorCount) * 512
    guard !overflow, start <= byteCount, length <= byteCount - start else { return nil }
    return start..<start + length
  }
}
