import GuestRAM
import LinuxIO

/// The error that the body throws, or nil.
func failure(_ body: () throws(GuestMemoryError) -> Void) -> GuestMemoryError? {
  do throws(GuestMemoryError) {
    try body()
    return nil
  } catch {
    return error
  }
}

func range(_ start: UInt64, _ byteCount: UInt64) -> GuestRange {
  GuestRange(start: GuestAddress(start), byteCount: byteCount)
}

func outside(_ start: UInt64, _ byteCount: UInt64) -> GuestMemoryError {
  .outside(range(start, byteCount))
}

extension DirtyLog {
  /// The marked pages, which are then marked no more.
  func takeMarks() -> [UInt64] {
    var pages: [UInt64] = []
    collect { pages.append($0) }
    return pages
  }
}

extension GuestMemory {
  /// Three regions, anonymous and shared, of which the first two touch: 0..<0x2000, 0x2000..<0x3000, 0x10000..<0x11000.
  static func patched(dirtyLog: DirtyLog? = nil) throws -> GuestMemory {
    try GuestMemory(
      regions: [
        MemoryRegion(memoryFile: 0x1000, start: GuestAddress(0x10000)),
        MemoryRegion(anonymous: 0x2000, start: GuestAddress(0)),
        MemoryRegion(memoryFile: 0x1000, start: GuestAddress(0x2000)),
      ], dirtyLog: dirtyLog)
  }
}
