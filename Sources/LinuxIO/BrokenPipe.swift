import Glibc

/// Runs a body whose writes may meet a pipe or socket without reader, so that they fail with `EPIPE` and the signal
/// that would end the process is dropped. Only the calling thread is affected, and only for the time of the call.
/// - Parameter isPossible: false for a write to a place, which pipes and sockets do not have: it costs nothing more then.
@inline(__always)
func withoutBrokenPipeSignal<Result>(
  isPossible: Bool = true, _ body: () throws(LinuxError) -> Result
) throws(LinuxError) -> Result {
  guard isPossible else { return try body() }
  var brokenPipe = sigset_t()
  unsafe sigemptyset(&brokenPipe)
  unsafe sigaddset(&brokenPipe, SIGPIPE)
  var before = sigset_t()
  unsafe pthread_sigmask(SIG_BLOCK, &brokenPipe, &before)
  // With the signal blocked already, a pending one may be somebody else's, and nothing is to be restored.
  guard unsafe sigismember(&before, SIGPIPE) == 0 else { return try body() }
  defer { unsafe pthread_sigmask(SIG_SETMASK, &before, nil) }
  do {
    return try body()
  } catch {
    var now = timespec()
    // Whatever the error: an earlier part of the body may have met the broken pipe.
    unsafe sigtimedwait(&brokenPipe, nil, &now)
    throw error
  }
}
