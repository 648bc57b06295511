import Glibc

/// Waits until a descriptor is ready for one of `events` (`POLLIN`, `POLLOUT`), or has failed, or the time is up.
///
/// - Parameter ledger: takes what the kernel tells of memory sent in place, which is no failure and not waited for.
/// - Returns: false when the time was up first.
func wait(
  for events: Int32, on descriptor: Int32, until deadline: Deadline, unless cancellation: Cancellation? = nil,
  settling ledger: ZeroCopyLedger? = nil
) throws(LinuxError) -> Bool {
  // The kernel passes over a negative descriptor.
  var requests = (
    pollfd(fd: descriptor, events: Int16(truncatingIfNeeded: events), revents: 0),
    pollfd(fd: cancellation?.descriptor ?? -1, events: Int16(truncatingIfNeeded: POLLIN), revents: 0)
  )
  while true {
    let ready = unsafe withUnsafeMutableBytes(of: &requests) {
      unsafe poll($0.assumingMemoryBound(to: pollfd.self).baseAddress, 2, deadline.pollTimeout)
    }
    if ready > 0 {
      guard requests.1.revents == 0 else { throw LinuxError(call: "poll", number: ECANCELED) }
      if requests.0.revents == Int16(POLLERR), let ledger, ledger.isUsed, ledger.settle(descriptor) { continue }
      return true
    }
    if ready == 0 {
      // A wait beyond what poll can be told ends early.
      if deadline.hasPassed { return false }
    } else if errno != EINTR {
      throw LinuxError(call: "poll")
    }
  }
}

/// Repeats a system call that moves some bytes until `byteCount` bytes have moved or it reports the end with 0.
///
/// A descriptor that does not block is waited for. A trickle of bytes does not extend the deadline.
/// - Parameter step: makes the call for what is left after so many bytes, and returns what the call returned.
/// - Returns: how many bytes moved; fewer than asked for only at the end.
@inline(__always)
func transfer(
  _ call: String, byteCount: Int, descriptor: Int32, events: Int32, until deadline: Deadline,
  unless cancellation: Cancellation? = nil, settling ledger: ZeroCopyLedger? = nil,
  step: (_ done: Int) throws(LinuxError) -> Int
) throws(LinuxError) -> Int {
  var done = 0
  while done < byteCount {
    if let cancellation, cancellation.isCancelled { throw LinuxError(call: call, number: ECANCELED) }
    let count = try step(done)
    if count > 0 {
      done += count
    } else if count == 0 {
      break
    } else if errno == EAGAIN {
      guard !deadline.hasPassed,
        try wait(for: events, on: descriptor, until: deadline, unless: cancellation, settling: ledger)
      else {
        throw LinuxError(call: call, number: ETIMEDOUT)
      }
    } else if errno != EINTR {
      throw LinuxError(call: call)
    }
  }
  return done
}
