import GuestRAM
import LinuxIO
import Synchronization

/// Whether page data goes straight from the guest's memory to the network (`MSG_ZEROCOPY`), or to the peer on this machine
/// (`splice`), or is copied into the socket.
///
/// It is only done while the guest stands still: the kernel reads a page when its packet goes, and once more when that got
/// lost, or when the peer asks for it, and the page's digest has gone ahead. What a guest that runs writes in between would
/// be damage.
public enum ZeroCopy: CaseIterable, Sendable {
  /// Data is copied.
  case never
  /// Data is not copied where the connection can do that, until the kernel has been seen to copy it all the same.
  case ifItHelps
  /// Data is not copied, and a connection that cannot do that is refused: all but TCP and unix sockets.
  case always
}

extension FrameSender where Link: ~Copyable {
  /// Has data of a guest that stands still sent without a copy from now on, as far as the connection can.
  /// - Throws: `zeroCopyUnavailable`, if it must and cannot.
  mutating func use(_ policy: ZeroCopy) throws(MigrationError) {
    guard policy != .never else { return }
    do throws(LinuxError) {
      try shared.link.startZeroCopy()
      zeroCopy = policy
    } catch {
      guard policy == .ifItHelps else {
        throw .zeroCopyUnavailable(error.isUnsupported ? "only TCP and unix sockets can" : error.description)
      }
    }
  }

  /// Waits until the kernel reads no memory any more that was sent without a copy.
  func awaitZeroCopies() throws(MigrationError) {
    try connecting { () throws(LinuxError) in try shared.link.awaitZeroCopies(within: limit) }
  }

  var zeroCopies: ZeroCopyReport { shared.link.zeroCopies }

  /// Sends data that nobody changes before `awaitZeroCopies`.
  mutating func sendUnchanging(_ vectors: borrowing IOVectors) throws(LinuxError) {
    if zeroCopy == .ifItHelps, zeroCopies.copiedByteCount > 0 { zeroCopy = .never }
    guard zeroCopy != .never else { return try shared.link.send(vectors, within: limit) }
    try shared.link.sendInPlace(vectors, within: limit)
  }
}

extension Source where Link: ~Copyable {
  /// Has the further connections do as the first one does.
  func useOnLanes(_ policy: ZeroCopy) throws(MigrationError) {
    for lane in lanes {
      try lane.stream.withLock { (stream) throws(MigrationError) in try stream.sender.use(policy) }
    }
  }

  /// Waits until the kernel has done with the guest's memory, which may be changed and given back then. The destination has
  /// said that it could run the guest, so it has read all, and there is next to nothing to wait for.
  mutating func awaitZeroCopies() throws(MigrationError) {
    try stream.sender.awaitZeroCopies()
    report.zeroCopies = stream.sender.zeroCopies
    for lane in lanes {
      try lane.stream.withLock { (stream) throws(MigrationError) in
        try Lane.naming { () throws(MigrationError) in try stream.sender.awaitZeroCopies() }
        report.zeroCopies.add(stream.sender.zeroCopies)
      }
    }
  }
}
