import Glibc
import GuestRAM
import LinuxIO
import Synchronization

/// The front-end as the one who provides missing pages, for as long as it is there.
///
/// A thread that waits for a page cannot notice that its front-end is gone, so another one does: then whoever waits, or
/// would have to, finds what is there.
final class PageProvider: Sendable {
  private let userfaultfd: Mutex<Userfaultfd?>
  private let ending: Eventfd

  /// - Parameter socket: the front-end's.
  init(_ socket: consuming FileDescriptor) throws(LinuxError) {
    userfaultfd = Mutex(try Userfaultfd())
    ending = try Eventfd()
    let number = socket.release()
    do throws(LinuxError) {
      _ = try Thread(name: "page provider") { [self] in waitForEnd(of: FileDescriptor(owning: number)) }
    } catch {
      _ = FileDescriptor(owning: number)
      throw error
    }
  }

  /// A descriptor through which the front-end learns of missing pages and provides them.
  func descriptor() throws(LinuxError) -> FileDescriptor {
    let copy = try userfaultfd.withLock { (userfaultfd) throws(LinuxError) in try userfaultfd?.descriptor.duplicate() }
    guard let copy else { throw LinuxError(call: "userfaultfd", number: ECONNRESET) }
    return copy
  }

  /// Leaves the missing pages of regions to the front-end.
  func awaitPages(of regions: [MemoryRegion]) throws(LinuxError) {
    try userfaultfd.withLock { (userfaultfd) throws(LinuxError) in
      for region in regions { try userfaultfd?.awaitPages(of: region) }
    }
  }

  /// No page is missing any more.
  func end() {
    ending.signal()
    release()
  }

  private func waitForEnd(of socket: consuming FileDescriptor) {
    do throws(LinuxError) {
      let loop = try EventLoop()
      try loop.watch(ending.descriptor.rawValue) { [unowned loop] in loop.stop() }
      try loop.watch(socket.rawValue, for: []) { [unowned loop] in loop.stop() }
      try loop.run()
      release()
    } catch {
      // Where the end cannot be watched for, no page is waited for either.
      release()
    }
  }

  /// With the last copy of the descriptor, which the front-end has, all waiting ends.
  private func release() {
    userfaultfd.withLock { $0 = nil }
  }
}

extension Userfaultfd {
  fileprivate borrowing func awaitPages(of region: MemoryRegion) throws(LinuxError) {
    try region.awaitPages(from: self)
  }
}
