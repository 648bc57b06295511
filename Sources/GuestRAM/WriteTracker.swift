import LinuxIO
import Synchronization

/// Which pages of a guest's memory were written since the last look, whoever wrote them: threads of the guest and of its
/// devices, and system calls.
///
/// It sees what is written through the mappings of one `GuestMemory`, and of every other that has the same regions. What
/// another process writes, or this one through another mapping of the same file, it does not see. Nor does it see what a
/// device puts past the page cache (`O_DIRECT`) into a page that was collected after its transfer had begun: whoever lets
/// such transfers go on meanwhile has to name their pages once they are over.
///
/// A page that was discarded counts as written, since it reads as zeros now. The kernel does not say so of memory in
/// files (a page's protection outlives the page), so the mapping tells the tracker. A hole that is made in the file
/// behind the mapping's back is not seen.
///
/// Tracking makes no page resident; it costs two parts in a thousand of the memory for page tables, and each look the time to
/// go through these, half a millisecond for each GiB. Asynchronously, of memory in files only what is in use counts.
public final class WriteTracker: Sendable {
  /// How the kernel tells of writes.
  public enum Method: CaseIterable, Sendable {
    /// It notes them in the page map, and writers go on at once (Linux 6.7). Any process may have it.
    case asynchronous
    /// A thread of the tracker is asked before the first write to each page, and the writer waits for it (Linux 6.4).
    ///
    /// Pages behind the one that is written are let go with it where writes follow each other, and count as written.
    case synchronous
  }

  /// The method in use.
  public let method: Method

  private let tracking: WriteTracking
  private let answering: Mutex<Thread?>

  /// The methods that this kernel and the rights of this process allow, best first; empty when there is none.
  public static var available: [Method] { Method.allCases.filter(\.isAvailable) }

  /// From the return on, every page that is written is found by `collect`.
  ///
  /// `EBUSY` is thrown for memory whose page faults somebody else has, another tracker or `MissingPages`.
  /// - Parameters:
  ///   - memory: regions of whole 4 KiB pages.
  ///   - method: the best there is when nil.
  public init(_ memory: GuestMemory, method: Method? = nil) throws(GuestMemoryError) {
    self.method = method ?? Self.available.first ?? .asynchronous
    tracking = try WriteTracking(memory, method: self.method)
    // Somebody has to answer before the first page is protected.
    answering = Mutex(self.method == .synchronous ? try tracking.startAnswering() : nil)
    do throws(GuestMemoryError) {
      try tracking.start()
    } catch {
      stop()
      throw error
    }
  }

  deinit {
    stop()
  }

  /// Protects written pages again and hands them out, as ranges that each lie in one region, in rising order.
  ///
  /// What was written before the call is found. A write meanwhile is found by this call or the next, and whoever reads a
  /// page in `body` or after reads at least what was written before the page was protected. Pages are of 4 KiB; of huge
  /// pages all is handed out. Calls of several threads share what there is. The memory that it takes is bounded.
  ///
  /// After an error some of the pages are lost: nothing less than all of memory will do then.
  public func collect(_ body: (GuestRange) -> Void) throws(GuestMemoryError) {
    try tracking.visit(taking: true, body)
  }

  /// How many bytes `collect` would hand out now. It takes nothing.
  public func writtenByteCount() throws(GuestMemoryError) -> UInt64 {
    var sum: UInt64 = 0
    try tracking.visit(taking: false) { sum += $0.byteCount }
    return sum
  }

  /// Tracks no more: memory is as it was before. Who waits for the tracker goes on, and `collect` throws from now on.
  public func stop() {
    tracking.requestEnd()
    answering.withLock { $0.take() }?.join()
    tracking.end()
  }
}

extension WriteTracker.Method {
  /// Whether this process may use it here.
  var isAvailable: Bool { Userfaultfd.isAvailable(features, isForSystemCalls: isForSystemCalls) }

  var features: Userfaultfd.Features {
    switch self {
    case .asynchronous: [.protection, .silentWrites]
    case .synchronous: .protection
    }
  }

  /// Silent writes are nobody's business, a system call's neither, and so need no privilege.
  var isForSystemCalls: Bool { self == .synchronous }
}
