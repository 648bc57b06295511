import Glibc
import Synchronization

/// Sending memory that the kernel reads later.
extension ByteStream {
  /// Lets `sendInPlace` send without a copy. `EOPNOTSUPP` is thrown for what is not one socket of TCP, or a unix socket. Calls on
  /// a unix socket no longer wait, which everybody notices who shares its open file.
  public func startZeroCopy() throws(LinuxError) {
    try output.withLock { (end) throws(LinuxError) in
      guard end?.isSocket == true, let number = end?.descriptor.rawValue else {
        throw LinuxError(call: "setsockopt(SO_ZEROCOPY)", number: EOPNOTSUPP)
      }
      if passesDescriptors { try end?.startPagePipe() } else { try ledger.start(number) }
    }
  }

  /// Sends all bytes of `vectors`, which nobody may change or unmap before `awaitZeroCopies` has returned: the kernel reads
  /// them where they are, as late as when a packet is sent once more. What it has no room to note it copies.
  ///
  /// Otherwise, and without `startZeroCopy` in all, like `send`.
  public func sendInPlace(_ vectors: borrowing IOVectors, within limit: Duration) throws(LinuxError) {
    try output.withLock { (end) throws(LinuxError) in
      guard let sent = try end?.sendInPlace(vectors, ledger, until: Deadline(after: limit), unless: cancellation),
        sent == vectors.totalByteCount
      else { throw LinuxError(call: "sendmsg", number: EPIPE) }
    }
  }

  /// Waits until the kernel reads nothing any more of what was sent in place. A peer over a unix socket that has passed pages
  /// on in the same way may have them for longer.
  /// - Parameter limit: `ETIMEDOUT` is thrown when the peer has taken nothing of it for so long. Then, and after any other
  ///   error, the kernel may still read it as long as the socket is open.
  public func awaitZeroCopies(within limit: Duration) throws(LinuxError) {
    try output.withLock { (end) throws(LinuxError) in
      guard let number = end?.descriptor.rawValue else { return }
      if end?.hasPagePipe == true { return try awaitReading(of: number, within: limit) }
      guard ledger.isUsed else { return }
      var (deadline, left) = (Deadline(after: limit), ledger.inFlightCount)
      while true {
        ledger.settle(number)
        let count = ledger.inFlightCount
        if count == 0 { return }
        if count < left { (deadline, left) = (Deadline(after: limit), count) }
        // Whatever there is to be received is not waited for: errors are always told.
        guard try wait(for: 0, on: number, until: deadline, unless: cancellation) else {
          throw LinuxError(call: "recvmsg(MSG_ERRQUEUE)", number: ETIMEDOUT)
        }
        // Nothing more is told of a connection that is over; of others somebody who receives may have heard it first.
        guard ledger.settle(number) || ledger.inFlightCount < count else {
          throw LinuxError(call: "recvmsg(MSG_ERRQUEUE)", number: ECONNRESET)
        }
      }
    }
  }

  /// Waits until the peer has read all. Nobody tells when that is.
  private func awaitReading(of number: Int32, within limit: Duration) throws(LinuxError) {
    var (deadline, left) = (Deadline(after: limit), Int32.max)
    while true {
      let count = try PagePipe.unreadByteCount(of: number)
      if count == 0 { return }
      if count < left { (deadline, left) = (Deadline(after: limit), count) }
      guard !deadline.hasPassed else { throw LinuxError(call: "ioctl(SIOCOUTQ)", number: ETIMEDOUT) }
      let isOver = try wait(for: 0, on: number, until: Deadline(after: .milliseconds(1)), unless: cancellation)
      if isOver, try PagePipe.unreadByteCount(of: number) > 0 {
        throw LinuxError(call: "ioctl(SIOCOUTQ)", number: ECONNRESET)
      }
    }
  }

  /// What has become of what was sent in place, as far as it is known.
  public var zeroCopies: ZeroCopyReport { ledger.report }
}
