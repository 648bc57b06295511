import GuestRAM

/// Where the pages of a running guest are copied before they are sent, so that what is digested is what goes, and where
/// pages are received that are checked before they go to their places.
struct PageStage {
  let memory: GuestMemory

  init() throws(MigrationError) {
    memory = try inGuestMemory { () throws(GuestMemoryError) in
      try GuestMemory(byteCount: UInt64(Frame.mostPageData))
    }
  }

  /// Copies the pages of a frame, one after another.
  /// - Returns: where they are.
  func take(_ frame: PageFrame, of guest: GuestMemory) throws(MigrationError) -> GuestBuffer {
    let start = GuestAddress(0)
    var offset: UInt64 = 0
    for run in frame.runs {
      let target = GuestAddress(start.rawValue + offset)
      try inGuestMemory { () throws(GuestMemoryError) in try guest.copy(run.range, to: memory, at: target) }
      offset += run.byteCount
    }
    return GuestBuffer(address: start, byteCount: frame.byteCount)
  }

  /// Hands out where the pages of a frame are that has been received here, and where each run of them belongs.
  func forEachRun(
    of frame: PageFrame, _ body: (GuestRange, GuestAddress) throws(GuestMemoryError) -> Void
  ) throws(MigrationError) {
    var offset: UInt64 = 0
    for run in frame.runs {
      let staged = GuestRange(start: GuestAddress(offset), byteCount: run.byteCount)
      try inGuestMemory { () throws(GuestMemoryError) in try body(staged, run.start) }
      offset += run.byteCount
    }
  }
}
