public import GuestRAM
import LinuxIO
import Synchronization

extension SavedGuest {
  /// Makes memory for the guest whose pages are read from the file when they are touched, each with those that are in
  /// the file beside it, and all others in rising order while nobody waits for one.
  ///
  /// From the return on the guest can run. Whoever touches a page that is still in the file waits until it has been read
  /// and checked, a system call too. The file must stay as it is until the memory is whole.
  /// - Parameters:
  ///   - makeMemory: makes memory of the described layout that nobody has used yet, of pages of 4 KiB.
  ///   - failed: told of each stretch that cannot be read or is damaged, on a thread of its own; see `LazyMemory`.
  /// - Throws: `onlyEagerly` for memory in huge pages; what `MissingPages` throws where the kernel or the rights of this
  ///   process do not allow it.
  public func restore(
    makeMemory: (GuestDescription) throws(GuestMemoryError) -> GuestMemory = { (description) throws(GuestMemoryError) in
      try description.makeMemory()
    },
    failed: @escaping @Sendable (MigrationError) -> Void
  ) throws(MigrationError) -> LazyMemory {
    let memory = try inGuestMemory { () throws(GuestMemoryError) in try makeMemory(description) }
    try description.check(memory)
    guard memory.regions.allSatisfy({ UInt64($0.backingPageByteCount) == GuestPage.byteCount }) else {
      throw .onlyEagerly
    }
    return try LazyMemory(memory, index, file, failed)
  }
}

/// A restored guest's memory, whose pages come from a file when they are missed.
///
/// A stretch that cannot be read, or whose digest is wrong, is told at once, once, by its error. Its pages stay missing:
/// nobody ever reads anything else than what was saved. Whoever touches one waits until the owner has decided: `retry`
/// after the file or its medium has been put right, or the end of the guest. To end it, tell its threads to stop and
/// then `stop`, which lets everybody go on who waits; they read zeros, and must not act on them any more.
///
/// Letting go of the value is a `stop`.
public final class LazyMemory: Sendable {
  /// What it was like once nothing was missing.
  public struct Report: Equatable, Sendable {
    /// The 4 KiB pages that were read from the file.
    public internal(set) var pageCount: UInt64 = 0
    /// How often somebody had to wait for a page.
    public internal(set) var faultCount: UInt64 = 0
    /// From the start of the guest's memory until all of it was there, in seconds.
    public internal(set) var seconds: Double = 0
  }

  /// The memory, to run the guest with.
  public let memory: GuestMemory
  private let server: LazyServer
  private let thread: Mutex<Thread?>

  init(
    _ memory: GuestMemory, _ index: SavedIndex, _ file: SavedFile,
    _ failed: @escaping @Sendable (MigrationError) -> Void
  ) throws(MigrationError) {
    self.memory = memory
    let server = try LazyServer(memory, index, file, failed)
    self.server = server
    do throws(LinuxError) {
      thread = Mutex(try Thread(name: "lazy restore") { server.run() })
    } catch {
      server.end()
      throw MigrationError(error)
    }
  }

  deinit {
    stop()
  }

  /// How many bytes still have to be read from the file.
  public var remainingByteCount: UInt64 { server.remainingByteCount }

  /// Waits until all of memory is there, for so long at most.
  /// - Returns: nil when the time was up.
  /// - Throws: the first of the errors that were told and have not been retried; `cancelled` after `stop`.
  public func waitUntilWhole(within limit: Duration) throws(MigrationError) -> Report? {
    try server.waitUntilWhole(within: limit)
  }

  /// Reads what could not be read once more.
  public func retry() {
    server.retry()
  }

  /// Reads nothing more: what is still missing reads as zeros, for those who wait for it now too. Of memory that is whole
  /// nothing is lost.
  public func stop() {
    server.requestEnd()
    thread.withLock { $0.take() }?.join()
    server.end()
  }
}
