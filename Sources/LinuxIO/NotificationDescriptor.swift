import Glibc

/// A kick or call descriptor that a peer has sent: an eventfd as a rule, a pipe or a socket now and then.
///
/// Neither direction ever waits, raises a signal or reads without end, whatever the peer does with its side.
public struct NotificationDescriptor: ~Copyable, Sendable {
  /// The open descriptor, to watch in an event loop.
  public let descriptor: FileDescriptor
  private let kind: FileStatus.Kind

  private static let chunkByteCount = 4096
  private static let largestChunkCount = 16

  /// Takes over a peer's descriptor; `EINVAL` is thrown for a file or a disk, which cannot notify anybody.
  ///
  /// Sockets are asked call by call not to wait. Eventfds and pipes have no such call, so their open file, which the
  /// peer shares, is set not to block: a peer that only ever signals its end, or waits with poll, does not notice.
  public init(owning descriptor: consuming FileDescriptor) throws(LinuxError) {
    let kind = try descriptor.status.kind
    switch kind {
    case .socket: break
    case .pipe, .other: try descriptor.setBlocking(false)
    case .regularFile, .blockDevice: throw LinuxError(call: "notify", number: EINVAL)
    }
    self.kind = kind
    self.descriptor = descriptor
  }

  /// Tells the peer. Nothing happens when the peer is gone, or has so many signals waiting that no more fit: it is
  /// going to look anyway.
  public func signal() throws(LinuxError) {
    do {
      _ = try kind == .pipe ? withoutBrokenPipeSignal { () throws(LinuxError) in try writeOne() } : writeOne()
    } catch {
      guard [EAGAIN, EPIPE, ECONNRESET].contains(error.number) else { throw error }
    }
  }

  /// Forgets what the peer has signalled, so that the descriptor is readable again only after the next signal.
  ///
  /// A peer that writes faster than it is read is given up on after 64 KiB; the descriptor is then still readable.
  /// - Returns: false when the peer has closed its end: the descriptor stays readable, so stop watching it.
  public func drain() throws(LinuxError) -> Bool {
    do {
      for _ in 0..<Self.largestChunkCount {
        let count = try readChunk()
        if count == 0 { return false }
        if count < Self.chunkByteCount { return true }
      }
      return true
    } catch {
      switch error.number {
      case EAGAIN: return true
      case ECONNRESET: return false
      default: throw error
      }
    }
  }

  private func writeOne() throws(LinuxError) -> Int {
    let number = descriptor.rawValue
    var one: UInt64 = 1
    if kind != .socket { return try retrying("write") { unsafe write(number, &one, 8) } }
    return try retrying("send") { unsafe send(number, &one, 8, Int32(MSG_NOSIGNAL | MSG_DONTWAIT)) }
  }

  private func readChunk() throws(LinuxError) -> Int {
    let number = descriptor.rawValue
    let isSocket = kind == .socket
    return try retrying(isSocket ? "recv" : "read") {
      unsafe withUnsafeTemporaryAllocation(byteCount: Self.chunkByteCount, alignment: 8) { (chunk) in
        if isSocket { return unsafe recv(number, chunk.baseAddress, chunk.count, Int32(MSG_DONTWAIT)) }
        return unsafe read(number, chunk.baseAddress, chunk.count)
      }
    }
  }
}
