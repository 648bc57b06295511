import CLinux
import Glibc

/// Signals as something to read, instead of something that interrupts.
public struct SignalDescriptor: ~Copyable, Sendable {
  /// The signals by which a process is asked to end: by a terminal, one that is closed included, or by anybody.
  public static let terminationRequests = [SIGINT, SIGTERM, SIGHUP, SIGQUIT]

  /// The open descriptor, to watch in an event loop: readable when a signal has arrived.
  public let descriptor: FileDescriptor

  /// Blocks the signals for the calling thread and the threads it starts from now on, and collects them instead.
  ///
  /// So make it first of all: a thread that was started before would still be interrupted. The signals stay blocked when
  /// the value is gone.
  public init(_ signals: [Int32] = terminationRequests) throws(LinuxError) {
    var set = sigset_t()
    unsafe sigemptyset(&set)
    for signal in signals {
      guard unsafe sigaddset(&set, signal) == 0 else { throw LinuxError(call: "sigaddset") }
    }
    descriptor = FileDescriptor(
      owning: try retrying("signalfd") { unsafe signalfd(-1, &set, Int32(SFD_CLOEXEC | SFD_NONBLOCK)) })
    unsafe pthread_sigmask(SIG_BLOCK, &set, nil)
  }

  /// Takes the next signal that has arrived, or nil when there is none.
  public func next() -> Int32? {
    var information = signalfd_siginfo()
    let byteCount = MemoryLayout<signalfd_siginfo>.size
    guard unsafe read(descriptor.rawValue, &information, byteCount) == byteCount else { return nil }
    return Int32(truncatingIfNeeded: information.ssi_signo)
  }
}
