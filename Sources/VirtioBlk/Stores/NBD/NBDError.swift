public import LinuxIO

/// Why an NBD server's export cannot be used. What the server said wrong ends the connection, and fails what it was said
/// to; a connection that is lost is made again.
public enum NBDError: Error, Equatable, Sendable {
  /// What was given as a server's address is none.
  case illegalAddress(String)
  /// The address, or the server, asks for a connection that is encrypted.
  case encrypted
  /// The kernel refused to connect, to send or to receive.
  case lost(LinuxError)
  /// The server ended the connection.
  case closed
  /// The server left something unanswered for too long.
  case timedOut
  /// The server says that it is about to stop.
  case stopping
  /// The connection could not be made again in time; why it failed last.
  indirect case gaveUp(NBDError)

  /// What listens there is no NBD server.
  case noServer
  /// The server speaks a protocol of before 2013.
  case outdated
  /// The server does not export what was asked for, or not to us.
  case exportRefused(code: UInt32, message: String)
  /// The export's size is not a multiple of 512 bytes and of its smallest block, or beyond all bounds.
  case illegalSize(UInt64)
  /// Sizes of blocks that contradict the protocol or each other.
  case illegalBlockSizes(minimum: UInt32, preferred: UInt32, maximum: UInt32)
  /// An answer to an option that the protocol does not have: its type and length.
  case illegalOptionReply(type: UInt32, byteCount: UInt32)
  /// Answers to an option without end.
  case tooManyOptionReplies

  /// After a reconnection the export is smaller than the disk.
  case shrunk(from: UInt64, to: UInt64)
  /// After a reconnection the export can only be read.
  case lostWriteAccess
  /// After a reconnection the smallest block is larger than what the driver was told.
  case blocksGrew(from: Int, to: Int)

  /// Bytes where a reply should begin that begin none.
  case illegalMagic(UInt32)
  /// A reply to a request that nobody made, or that was answered before.
  case unknownHandle(UInt64)
  /// A kind of reply that the request cannot have.
  case unexpectedReply(type: UInt16)
  /// A chunk whose length its type cannot have.
  case illegalChunkLength(type: UInt16, byteCount: UInt32)
  /// A chunk of bytes that were not asked for.
  case chunkOutside(at: UInt64, byteCount: UInt64)
  /// Bytes that came twice.
  case chunksOverlap(at: UInt64)
  /// A reply in more pieces than anybody has a use for.
  case tooManyPieces
  /// A reply that ended before all bytes had come.
  case incomplete(missingByteCount: Int)

  /// The server could not do what was asked, by the protocol's error number.
  case refused(number: UInt32, message: String)
  /// A place or length that is no multiple of the export's smallest block.
  case unaligned(at: UInt64, byteCount: UInt64, block: Int)

  /// Whether another connection may do better.
  var isTransient: Bool {
    switch self {
    case .lost, .closed, .timedOut, .stopping, .exportRefused: true
    default: false
    }
  }

  /// What the failure of a call on the connection means.
  init(_ error: LinuxError) {
    if error.isTimeOut {
      self = .timedOut
    } else if error.isPeerGone {
      self = .closed
    } else {
      self = .lost(error)
    }
  }
}

extension NBDError: CustomStringConvertible {
  public var description: String {
    switch self {
    case .illegalAddress, .encrypted, .lost, .closed, .timedOut, .stopping, .gaveUp: connectionDescription
    case .noServer, .outdated, .exportRefused, .illegalSize, .illegalBlockSizes: exportDescription
    case .shrunk, .lostWriteAccess, .blocksGrew: exportDescription
    case .refused(let number, ""): "the NBD server answers error \(number)"
    case .refused(let number, let message): "the NBD server answers error \(number): \(message)"
    case .unaligned(let place, let count, let block):
      "\(count) bytes at byte \(place): the NBD server takes multiples of \(block) bytes only"
    default: "the NBD server breaks the protocol: \(violationDescription)"
    }
  }

  private var connectionDescription: String {
    switch self {
    case .illegalAddress(let text):
      "\(text): an NBD server is nbd://HOST[:PORT]/[EXPORT] or nbd+unix:///[EXPORT]?socket=PATH"
    case .encrypted: "the NBD server wants a connection with TLS, which is not supported"
    case .lost(let error): "the connection to the NBD server failed: \(error)"
    case .closed: "the NBD server closed the connection"
    case .timedOut: "the NBD server did not answer in time"
    case .gaveUp(let last): "gave up to connect again: \(last)"
    default: "the NBD server is stopping"
    }
  }

  private var exportDescription: String {
    switch self {
    case .noServer: "this is not an NBD server"
    case .outdated: "the NBD server does not speak the newstyle protocol"
    case .exportRefused(let code, ""): "the NBD server refuses the export (code \(code))"
    case .exportRefused(_, let message): "the NBD server refuses the export: \(message)"
    case .illegalSize(let size):
      "an NBD export of \(size) bytes: a disk's size is a multiple of 512 bytes and of the smallest block"
    case .illegalBlockSizes(let minimum, let preferred, let maximum):
      "an NBD export with blocks of \(minimum), \(preferred) and \(maximum) bytes, which contradict each other"
    case .shrunk(let old, let new): "the NBD export became smaller: \(new) bytes instead of \(old)"
    case .blocksGrew(let old, let new): "the NBD export's blocks became larger: \(new) bytes instead of \(old)"
    default: "the NBD export has become read-only"
    }
  }

  private var violationDescription: String {
    switch self {
    case .illegalOptionReply(let type, let count): "an option's reply of type \(type) with \(count) bytes"
    case .tooManyOptionReplies: "replies to an option without end"
    case .illegalMagic(let magic): "a reply begins with \(String(magic, radix: 16))"
    case .unknownHandle(let handle): "a reply to request \(handle), which waits for none"
    case .unexpectedReply(let type): "a reply of type \(type) to a request that has none such"
    case .illegalChunkLength(let type, let count): "a chunk of type \(type) with \(count) bytes"
    case .chunkOutside(let place, let count): "\(count) bytes at byte \(place) that were not asked for"
    case .chunksOverlap(let place): "the bytes at \(place) came twice"
    case .tooManyPieces: "a reply in too many pieces"
    case .incomplete(let missing): "a reply that lacks \(missing) bytes"
    default: "unknown"
    }
  }
}
