import GuestRAM
import LinuxIO

/// The frames that this side receives, whose numbers have to follow each other.
///
/// Of its copies only one goes on receiving.
struct FrameReceiver<Link: Channel & ~Copyable>: Sendable {
  private let shared: SharedLink<Link>
  var limit: Duration
  private var receivedCount: UInt32 = 0
  /// The bytes that have come.
  private(set) var byteCount: UInt64 = 0

  init(_ shared: SharedLink<Link>, limit: Duration) {
    self.shared = shared
    self.limit = limit
  }

  /// The next frame. What a peer says when it gives up is thrown.
  mutating func receive() throws(MigrationError) -> Frame {
    try receive(after: receiveHeader())
  }

  private mutating func receiveHeader() throws(MigrationError) -> FrameHeader {
    let header = try FrameHeader(receiveBytes(Frame.headerByteCount), expecting: receivedCount)
    receivedCount &+= 1
    return header
  }

  private mutating func receive(after header: FrameHeader) throws(MigrationError) -> Frame {
    let frame = try header.frame(receiveBytes(header.payloadByteCount))
    if frame.kind == .abort { throw try Abort(frame.payload).heard }
    return frame
  }

  /// The next frame, which is of this kind.
  mutating func receive(_ kind: FrameKind) throws(MigrationError) -> Frame {
    let frame = try receive()
    guard frame.kind == kind else { throw .unexpectedFrame(frame.kind) }
    return frame
  }

  /// Whether a frame has begun to come, or the connection is over; waits for it for so long.
  func waitForFrame(within limit: Duration) throws(MigrationError) -> Bool {
    try connecting { () throws(LinuxError) in try shared.link.waitUntilReadable(within: limit) }
  }

  /// Receives the data behind a frame of late pages.
  mutating func receiveLate(_ late: LateRun) throws(MigrationError) -> [UInt8] {
    let bytes = try receiveBytes(late.run.isZero ? 0 : Int(late.run.byteCount))
    guard late.run.isZero || GuestMemory.digest(of: bytes) == late.digest else { throw .damagedPages(late.run.range) }
    return bytes
  }

  /// The next frame, which is of this kind, and the descriptors that come with its payload, at most so many.
  mutating func receive(
    _ kind: FrameKind, mostDescriptors most: Int
  ) throws(MigrationError) -> UnixSocket.Received {
    let header = try receiveHeader()
    guard header.kind == kind else { throw .unexpectedFrame(try receive(after: header).kind) }
    let received = try connecting { () throws(LinuxError) in
      try shared.link.receive(exactly: header.payloadByteCount, mostDescriptors: most, within: limit)
    }
    guard let received else { throw .peerGone }
    byteCount += UInt64(header.payloadByteCount)
    _ = try header.frame(received.bytes)
    return received
  }

  /// Receives the data behind a frame of pages straight into guest memory.
  mutating func receivePages(_ pages: [GuestBuffer], of memory: GuestMemory) throws(MigrationError) {
    let total = pages.reduce(0) { $0 + $1.byteCount }
    var vectors = IOVectors(capacity: pages.count)
    do {
      _ = try memory.fill(pages, using: &vectors) { (vectors) throws(MigrationError) in
        let isWhole = try connecting { () throws(LinuxError) in try shared.link.receive(into: vectors, within: limit) }
        guard isWhole else { throw .peerGone }
        return total
      }
    } catch {
      if case .transfer(.system(let failure)) = error, failure.isLackOfMemory, let first = pages.first {
        throw .memory(.noMemory(GuestRange(start: first.address, byteCount: UInt64(total))))
      }
      throw MigrationError(error)
    }
    byteCount += UInt64(total)
  }

  /// Exactly so many bytes: a part of a frame, or what goes before the first.
  mutating func receiveBytes(_ count: Int) throws(MigrationError) -> [UInt8] {
    guard count > 0 else { return [] }
    let bytes = try connecting { () throws(LinuxError) in try shared.link.receive(exactly: count, within: limit) }
    guard let bytes else { throw .peerGone }
    byteCount += UInt64(count)
    return bytes
  }
}
