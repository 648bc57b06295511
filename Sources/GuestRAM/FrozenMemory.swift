/// A guest's memory as it was at one moment, taken stretch by stretch while the guest writes on.
///
/// From `freeze` on, whoever writes a page that has not been taken waits until its bytes have been put aside, a system
/// call too. What is put aside is bounded: when there is no room, writers wait until some of it has been taken. A page
/// that is discarded is put aside before.
///
/// It sees what is written through the mappings of this `GuestMemory`, as `WriteTracker` does and with the same limits:
/// what another process writes while it is taken may be in it or not.
public final class FrozenMemory: Sendable {
  /// Neighbouring pages that are alike.
  public struct Run: Equatable, Sendable {
    /// Whole pages of 4 KiB in one region.
    public let range: GuestRange
    /// Whether all of it is zero; otherwise its bytes are in `stage`, behind those of the runs before it.
    public let isZero: Bool
  }

  private let pages: FrozenPages

  /// Whether this kernel and the rights of this process allow it.
  public static var isAvailable: Bool { WriteTracker.Method.synchronous.isAvailable }

  /// Gets ready, which costs the running guest the first write to each page: `freeze` has to look only at those that it
  /// has written since.
  ///
  /// `EBUSY` is thrown for memory whose page faults somebody else has.
  /// - Parameters:
  ///   - memory: regions of whole 4 KiB pages.
  ///   - mostBytesAside: how much memory may be taken for pages that are put aside; at least a backing page.
  public init(_ memory: GuestMemory, mostBytesAside: Int) throws(GuestMemoryError) {
    pages = try FrozenPages(memory, mostBytesAside: mostBytesAside)
    do throws(GuestMemoryError) {
      try pages.arm()
    } catch {
      pages.end()
      throw error
    }
  }

  deinit {
    end()
  }

  /// The moment whose memory is taken. Nobody writes memory during the call.
  public func freeze() throws(GuestMemoryError) {
    try pages.freeze()
  }

  /// Where `takeNext` puts bytes, from address 0 on.
  public var stage: GuestMemory { pages.stage }

  /// Takes the next stretch, in rising order and for one thread, after which its pages can be written as before.
  ///
  /// - Returns: the pages that had memory behind them, as runs; perhaps none. What is not zero is in `stage` until the
  ///   next call. Nil when all has been taken.
  public func takeNext() throws(GuestMemoryError) -> [Run]? {
    try pages.takeNext()
  }

  /// How many pages have been put aside so far because somebody wrote or discarded them.
  public var asideCount: Int { pages.asideCount }

  /// Everybody writes as before, and nothing more can be taken. Who waits goes on.
  public func end() {
    pages.end()
  }
}
