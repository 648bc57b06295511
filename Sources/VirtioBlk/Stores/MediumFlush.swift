import LinuxIO
import Synchronization

/// Flushes a file, until that fails once: the kernel then forgets what it could not write, and tells only one of those who
/// ask. A later flush that succeeded would mean nothing.
struct MediumFlush: ~Copyable, Sendable {
  private let failure = Mutex<LinuxError?>(nil)

  /// One at a time, so that nobody hears of success while another is told of the failure.
  func perform(_ synchronize: () throws(LinuxError) -> Void) throws(StoreError) {
    let error = failure.withLock { failure in
      if failure == nil {
        do throws(LinuxError) { try synchronize() } catch { failure = error }
      }
      return failure
    }
    if let error { throw .system(error) }
  }
}
