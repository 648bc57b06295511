public import GuestRAM

/// What anybody in this process writes to a guest's memory while it is moved: what the kernel tells (`WriteTracker`) and
/// what devices note of their own stores (`DirtyLog`), together.
///
/// Neither is enough. The kernel sees the guest's threads, and of a device's transfer past the page cache (`O_DIRECT`) the
/// moment at which its pages are pinned: a collection after that takes the page as it was, and what the disk then puts
/// there is seen by nobody. A device notes its stores when they are made, but only its own. So a page is sent again if
/// either names it, and the last pass has all: by then each device has finished what it had begun (`DeviceGroup`).
public struct GuestWrites: ~Copyable, Sendable {
  /// The guest's memory as its devices have to have it from now on, for what they store to be noted.
  public let deviceMemory: GuestMemory

  private let tracker: WriteTracker
  private let log: DirtyLog

  /// From the return on, all that is written through this memory is found by `take`, except by devices that have not been
  /// given `deviceMemory` yet.
  ///
  /// - Parameter method: the best there is when nil.
  public init(_ memory: GuestMemory, method: WriteTracker.Method? = nil) throws(MigrationError) {
    let last = memory.regions[memory.regions.count - 1].range
    (tracker, log, deviceMemory) = try inGuestMemory { () throws(GuestMemoryError) in
      let log = try DirtyLog(coveringUpTo: GuestAddress(last.start.rawValue + last.byteCount))
      let logged = try memory.with(dirtyLog: log)
      return (try WriteTracker(memory, method: method), log, logged)
    }
  }

  /// What has been written since tracking began or this was asked last, as `LiveGuest.takeWrites` wants it.
  public func take() throws(MigrationError) -> [GuestRange] {
    var told: [GuestRange] = []
    try inGuestMemory { () throws(GuestMemoryError) in try tracker.collect { told.append($0) } }
    let noted = takeNoted()
    return noted.isEmpty ? told : told.union(noted)
  }

  /// The pages that devices have noted, in runs that each lie in one region.
  private func takeNoted() -> [GuestRange] {
    let starts = Set(deviceMemory.regions.map(\.range.start.rawValue))
    var noted: [GuestRange] = []
    log.collect { (page) in
      let start = page * GuestPage.byteCount
      if let last = noted.last, last.start.rawValue + last.byteCount == start, !starts.contains(start) {
        noted[noted.count - 1] = GuestRange(start: last.start, byteCount: last.byteCount + GuestPage.byteCount)
      } else {
        noted.append(GuestRange(start: GuestAddress(start), byteCount: GuestPage.byteCount))
      }
    }
    return noted
  }

  /// Tracks no more. Devices can be given memory without the log.
  public consuming func end() {
    tracker.stop()
  }
}
