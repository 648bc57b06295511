import Glibc
public import GuestRAM
public import LinuxIO

/// Why a guest was not moved.
///
/// Whatever the source throws, its guest may run on there, except after `outcomeUnknown` and `interrupted`. Whatever the
/// destination throws, the guest must not run there; after `interrupted` it does, and waits for pages that do not come.
public enum MigrationError: Error, Equatable, Sendable {
  // The connection.
  /// The text is not an address; `expectation` completes "It takes …".
  case invalidAddress(String, expectation: String)
  /// The address is well written, but what it names cannot carry a migration; `expectation` completes "It takes …".
  case unsuitable(MigrationAddress, expectation: String)
  /// The address of a listener gives one connection, which it has given.
  case onlyOneConnection(MigrationAddress)
  /// The command that carries the connection has failed.
  case commandFailed(String, ChildProcess.End)
  /// This side was told to give up.
  case cancelled
  /// One of several connections has ended.
  case connectionLost
  /// A move has fewer connections.
  case tooManyConnections(Int, most: Int)
  /// The peer closed the connection, or is gone.
  case peerGone
  /// The peer neither took nor sent what was due within the time limit.
  case peerStalled
  /// The peer said that it cannot go on, in its own words.
  case peerFailed(String)
  /// The destination does not take this guest; both producers are named.
  case refused(source: String, destination: String, reason: String)
  /// The kernel failed.
  case system(LinuxError)

  // The stream.
  /// The first bytes are not those of a migration.
  case notAMigration
  /// The peer speaks a version of the format that this code does not.
  case unsupportedVersion(UInt32, newest: UInt32)
  /// Both ends of the connection are sources, or both are destinations.
  case sameRole
  /// A header or payload is not what was sent; nil when the header itself is damaged.
  case damagedFrame(FrameKind?)
  /// A kind of frame that this version does not have.
  case unknownFrame(UInt16)
  /// Flags that this version does not have.
  case unknownFlags(UInt16, FrameKind)
  /// A frame was lost, repeated or moved.
  case outOfSequence(FrameKind, number: UInt32, expected: UInt32)
  /// A frame is longer than its kind may be.
  case frameTooLong(FrameKind, byteCount: Int, most: Int)
  /// The kind of frame is known but has no place here.
  case unexpectedFrame(FrameKind)
  /// The payload is not one of this kind of frame.
  case malformedFrame(FrameKind)

  // The guest.
  /// A region of the guest is not made of whole 4 KiB pages, or not above the one before it, or there are too many.
  case invalidRegion(GuestRange)
  /// A name or text in the description is longer than it may be.
  case noteTooLong(String)
  /// The description has more notes than it may have.
  case tooManyNotes(Int, most: Int)
  /// The guest has more memory than the destination may give.
  case tooMuchMemory(byteCount: UInt64, most: UInt64)
  /// The saved state is larger than it may be.
  case tooMuchState(byteCount: Int, most: Int)
  /// The memory made for the guest lies elsewhere than the guest's.
  case otherLayout(source: [GuestRange], destination: [GuestRange])
  /// The memory made for the guest is in use.
  case unsuitableMemory
  /// Pages that are not in one region, or not above those before them.
  case misplacedPages(GuestAddress, pageCount: UInt64)
  /// Page data that was not announced, or not in the order announced.
  case unplannedPages(GuestAddress)
  /// More pages announced than may be before their data comes.
  case tooManyPlanned(most: Int)
  /// The data of the pages of this frame is not what was sent.
  case damagedPages(GuestRange)
  /// The counts at the end are not those of what came.
  case incomplete
  /// The destination holds other bytes in this page than the source.
  case pageDiffers(GuestAddress)
  /// The guest arrived but cannot run at the destination.
  case unusable(String)
  /// Guest memory could not be made, reached or filled.
  case memory(GuestMemoryError)

  /// The memory or the connection is none that can be handed over to another process: why, and what could be.
  case cannotHandOver(String)
  /// What is in the file can only be restored as a whole, before the guest runs: its pages are compressed, or are to go
  /// into huge pages.
  case onlyEagerly
  /// Data must go without a copy, and the connection cannot do that: why.
  case zeroCopyUnavailable(String)
  /// The files that came are not the memory of the guest that was described, or not safe to map.
  case unusableFiles(String)

  /// The guest cannot be stopped, saved, or watched, or writes faster than its pages can be sent: why, and what to do.
  case guest(String)

  /// The source that came over a new connection is not the one that gave this guest away.
  case anotherMove
  /// The guest cannot run before all of its memory is there: which side cannot do what.
  case postcopyUnavailable(String)
  /// The guest runs at the destination and lacks pages that the source has, and the connection is lost: why. What the
  /// guest lacks it waits for. It must not run at the source, and cannot go on at the destination.
  case interrupted(String)

  /// The source gave the guest away and did not hear whether it arrived. The guest must not run at the source until an
  /// operator has made sure that it does not run at the destination. The text says why nothing was heard.
  case outcomeUnknown(String)

  /// Whether a source that threw this may let its guest run on.
  public var sourceMayRun: Bool {
    switch self {
    case .outcomeUnknown, .interrupted: false
    default: true
    }
  }
}

extension MigrationError: CustomStringConvertible {
  public var description: String {
    switch self {
    case .peerGone: "the peer closed the connection"
    case .connectionLost: "one of the connections was closed"
    case .tooManyConnections(let count, let most): "\(count) further connections; at most \(most) are used"
    case .peerStalled: "the peer did nothing within the time limit"
    case .peerFailed(let reason): "the peer failed: \(reason)"
    case .cancelled: "the move was called off"
    case .refused(let source, let destination, let reason):
      "\(destination) does not take the guest of \(source): \(reason)"
    case .system(let error): error.description
    case .guest(let reason): reason
    case .postcopyUnavailable(let reason): "the guest cannot run before all of its memory is there: \(reason)"
    case .zeroCopyUnavailable(let reason):
      "the connection cannot send without a copy: \(reason); ask for that where it helps, or never"
    case .interrupted(let reason):
      "the guest runs at the destination, but not all of its memory has arrived there: \(reason)"
    case .outcomeUnknown(let reason):
      "the guest was given away, but the destination did not confirm (\(reason)): it must not run here until it is "
        + "certain that it does not run there"
    default: addressDescription ?? streamDescription ?? guestDescription
    }
  }

  private var addressDescription: String? {
    switch self {
    case .invalidAddress(let text, let expectation):
      "the address \"\(text)\" cannot be used: it takes \(expectation)"
    case .unsuitable(let address, let expectation):
      "the address \"\(address)\" cannot be used: it takes \(expectation)"
    case .onlyOneConnection(let address): "\"\(address)\" gives one connection, and another is wanted"
    case .commandFailed(let command, let end): "the command \"\(command)\" \(end)"
    default: nil
    }
  }

  private var streamDescription: String? {
    switch self {
    case .notAMigration: "the first bytes are not those of a migration"
    case .unsupportedVersion(let version, let newest):
      "the peer speaks version \(version) of the format; this code speaks \(newest)"
    case .anotherMove: "the source that came over a new connection is not the one that gave this guest away"
    case .sameRole: "both ends of the connection have the same role"
    case .damagedFrame(let kind): "damaged on the way: \(kind.map { "a frame \"\($0)\"" } ?? "a frame's header")"
    case .unknownFrame(let kind): "kind of frame \(kind) is unknown"
    case .unknownFlags(let flags, let kind): "frame \"\(kind)\": unknown flags 0x\(String(flags, radix: 16))"
    case .outOfSequence(let kind, let number, let expected):
      "frame \"\(kind)\" is number \(number) where \(expected) is due: lost, repeated or moved"
    case .frameTooLong(let kind, let byteCount, let most):
      "frame \"\(kind)\": \(byteCount) bytes, where at most \(most) are taken"
    case .unexpectedFrame(let kind): "frame \"\(kind)\" has no place here"
    case .malformedFrame(let kind): "frame \"\(kind)\": the payload is malformed"
    default: nil
    }
  }

  private var guestDescription: String {
    switch self {
    case .invalidRegion(let range): "memory region of \(range): not whole pages, or not in order, or too many"
    case .noteTooLong(let name): "note \(name.prefix(255)): name or text too long"
    case .tooManyNotes(let count, let most): "\(count) notes describe the guest; at most \(most) are taken"
    case .tooMuchMemory(let byteCount, let most):
      "the guest has \(byteCount) bytes of memory; at most \(most) are given"
    case .tooMuchState(let byteCount, let most): "the state has \(byteCount) bytes or more; at most \(most) are taken"
    case .otherLayout(let source, let destination):
      "memory layout: source: \(Self.words(source)); destination: \(Self.words(destination))"
    case .unsuitableMemory: "the memory made for the guest is in use"
    case .misplacedPages(let start, let count): "\(count) pages at \(start): not in one region, or not in order"
    case .unplannedPages(let start): "page data for \(start) came unannounced"
    case .tooManyPlanned(let most): "more than \(most) runs of pages announced before their data"
    case .damagedPages(let range): "damaged on the way: pages in the \(range)"
    case .incomplete: "the counts at the end are not those of what came"
    case .pageDiffers(let address): "the page at \(address) holds other bytes at the destination"
    case .unusable(let reason): "the guest cannot run at the destination: \(reason)"
    case .cannotHandOver(let reason): "the guest's memory cannot be handed over: \(reason)"
    case .onlyEagerly:
      "pages that are compressed, or go into huge pages, cannot be read from a file when they are touched: restore all"
    case .unusableFiles(let reason): "the memory files cannot be used: \(reason)"
    case .memory(let error): error.description
    default: "unknown"
    }
  }
}

extension MigrationError {
  /// The first regions, which is all that most guests have.
  private static func words(_ regions: [GuestRange]) -> String {
    let first = regions.prefix(4).map(\.description)
    return (first + (regions.count > first.count ? ["\(regions.count) regions in all"] : [])).joined(separator: ", ")
  }

  /// A failed transfer over a connection, as what it says of the peer.
  init(_ error: LinuxError) {
    if error.isTimeOut {
      self = .peerStalled
    } else if error.isPeerGone {
      self = .peerGone
    } else if error.isCancellation {
      self = .cancelled
    } else if error.number == EMSGSIZE {
      self = .unusableFiles("more came than may")
    } else {
      self = .system(error)
    }
  }

  init(_ error: TransferError<MigrationError>) {
    switch error {
    case .memory(let error): self = .memory(error)
    case .transfer(let error): self = error
    }
  }
}

/// Runs what uses guest memory and names its error as one of ours.
func inGuestMemory<Result: ~Copyable>(_ body: () throws(GuestMemoryError) -> Result) throws(MigrationError) -> Result {
  do {
    return try body()
  } catch {
    throw .memory(error)
  }
}
