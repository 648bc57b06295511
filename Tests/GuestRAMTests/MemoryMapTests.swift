import GuestRAM
import LinuxIO
import Testing

@Suite("GuestRAM: the map")
struct MemoryMapTests {
  /// The error of a map of such regions of one page each.
  static func refusal(starts: [UInt64], byteCount: UInt64 = 0x1000) -> GuestMemoryError? {
    failure { () throws(GuestMemoryError) in
      var regions: [MemoryRegion] = []
      for start in starts {
        regions.append(try MemoryRegion(anonymous: byteCount, start: GuestAddress(start)))
      }
      _ = try GuestMemory(regions: regions)
    }
  }

  /// The error of a region of a file.
  static func refusal(
    of file: consuming FileDescriptor, at fileOffset: UInt64 = 0, byteCount: UInt64, start: UInt64 = 0
  ) -> GuestMemoryError? {
    do throws(GuestMemoryError) {
      _ = try MemoryRegion(file: file, at: fileOffset, byteCount: byteCount, start: GuestAddress(start))
      return nil
    } catch {
      return error
    }
  }

  @Test("regions may touch, in any order, and may not overlap by a byte, nor be the same")
  func overlap() {
    #expect(Self.refusal(starts: [0x1000, 0, 0x2000]) == nil)
    #expect(Self.refusal(starts: [0, 0xFFF]) == .overlap(range(0, 0x1000), range(0xFFF, 0x1000)))
    #expect(Self.refusal(starts: [0xFFF, 0x5000, 0]) == .overlap(range(0, 0x1000), range(0xFFF, 0x1000)))
    #expect(Self.refusal(starts: [7, 7]) == .overlap(range(7, 0x1000), range(7, 0x1000)))
  }

  @Test("a map has one to 512 regions")
  func count() {
    #expect(Self.refusal(starts: []) == .noRegions)
    let starts = (0..<513).map { UInt64($0) * 0x1000 }
    #expect(Self.refusal(starts: Array(starts.prefix(512))) == nil)
    #expect(Self.refusal(starts: starts) == .tooManyRegions(513, most: 512))
  }

  @Test("a region is neither empty nor endless, whether it has a file or not", arguments: [false, true])
  func emptyOrEndless(isShared: Bool) throws {
    func refusal(_ start: UInt64, _ byteCount: UInt64) throws -> GuestMemoryError? {
      if isShared {
        let file = try MemoryFile.create(name: "test", byteCount: 0x1000)
        return Self.refusal(of: file, byteCount: byteCount, start: start)
      }
      return failure { () throws(GuestMemoryError) in
        _ = try MemoryRegion(anonymous: byteCount, start: GuestAddress(start))
      }
    }
    #expect(try refusal(0, 0) == .emptyOrEndless(range(0, 0)))
    #expect(try refusal(.max - 0xFFE, 0x1000) == .emptyOrEndless(range(.max - 0xFFE, 0x1000)))
    #expect(try refusal(.max, 1) == .emptyOrEndless(range(.max, 1)))
    #expect(try refusal(.max - 0x1000, 0x1000) == nil)
    #expect(try refusal(.max - 1, 1) == nil)
    let endless = try refusal(0, .max)
    #expect(endless == (isShared ? .fileTooShort(needed: .max, is: 0x1000) : .emptyOrEndless(range(0, .max))))
  }

  @Test("a file reaches at least to its region's end, and an offset that runs over is no shorter file")
  func fileTooShort() throws {
    let cases: [(UInt64, UInt64, UInt64)] = [
      (0, 0x2001, 0x2001), (0x1000, 0x1001, 0x2001), (0x2000, 1, 0x2001), (.max, 2, .max), (2, .max, .max),
    ]
    for (offset, byteCount, needed) in cases {
      let file = try MemoryFile.create(name: "test", byteCount: 0x2000)
      let error = Self.refusal(of: file, at: offset, byteCount: byteCount)
      #expect(error == .fileTooShort(needed: needed, is: 0x2000))
    }
  }

  @Test("a file that claims to be as long as files can be is refused like any other that cannot be mapped")
  func hugeFile() throws {
    let file = try MemoryFile.create(name: "test", byteCount: .max)
    let error = Self.refusal(of: file, at: 1 << 62, byteCount: 1 << 62 - 1)
    guard case .system(let refusal) = error else {
      Issue.record("not refused by the kernel: \(String(describing: error))")
      return
    }
    #expect(refusal.call == "mmap")
  }

  @Test("what is no file of bytes is refused")
  func notAFile() throws {
    let pair = try Eventfd()
    let descriptor = try pair.descriptor.duplicate()
    let error = Self.refusal(of: descriptor, byteCount: 0x1000)
    #expect(error == .fileTooShort(needed: 0x1000, is: 0))
  }

  @Test("two maps of one file see each other's stores, each at its own offset")
  func sharedFile() throws {
    let region = try MemoryRegion(memoryFile: 0x4000, start: GuestAddress(0))
    guard let file = try region.duplicateFile() else {
      Issue.record("a memory file that has no descriptor")
      return
    }
    let first = try GuestMemory(regions: [region])
    let second = try GuestMemory(regions: [
      MemoryRegion(file: file, at: 0x1000, byteCount: 0x2000, start: GuestAddress(0x7000))
    ])
    try first.write(UInt32(0xABCD), at: GuestAddress(0x1234))
    #expect(try second.read(UInt32.self, at: GuestAddress(0x7234)) == 0xABCD)
    try second.write(UInt32(7), at: GuestAddress(0x8FFC))
    #expect(try first.read(UInt32.self, at: GuestAddress(0x2FFC)) == 7)
  }

  @Test("regions answer to their addresses in rising order, however many there are")
  func lookup() throws {
    let starts = (0..<100).map { UInt64($0) * 0x3000 + 0x800 }
    let memory = try GuestMemory(
      regions: starts.reversed().map { try MemoryRegion(anonymous: 0x1000, start: GuestAddress($0)) })
    #expect(memory.regions.map(\.range.start.rawValue) == starts)
    #expect(memory.byteCount == 100 * 0x1000)
    for start in starts {
      try memory.write(start, at: GuestAddress(start))
      try memory.write(UInt8(1), at: GuestAddress(start + 0xFFF))
    }
    for start in starts {
      #expect(try memory.read(UInt64.self, at: GuestAddress(start)) == start)
      for hole in [start - 1, start + 0x1000] {
        let error = failure { () throws(GuestMemoryError) in _ = try memory.read(UInt8.self, at: GuestAddress(hole)) }
        #expect(error == outside(hole, 1))
      }
    }
  }

  @Test("a dirty log covers all regions, to the last byte")
  func logTooShort() throws {
    let memory = try GuestMemory.patched()
    let short = try DirtyLog(coveringUpTo: GuestAddress(0x10000))
    let error = failure { () throws(GuestMemoryError) in _ = try memory.with(dirtyLog: short) }
    #expect(error == .logTooShort(pages: 16, needed: 17))
    _ = try memory.with(dirtyLog: DirtyLog(coveringUpTo: GuestAddress(0x10001)))
  }

  @Test("2.7: an address further on, or a range's end, is nil beyond 64 bits")
  func addresses() {
    #expect(GuestAddress(.max).advanced(by: 1) == nil)
    #expect(GuestAddress(.max - 1).advanced(by: 1) == GuestAddress(.max))
    #expect(range(.max, 0).end == GuestAddress(.max))
    #expect(range(.max, 1).end == nil)
    #expect(GuestBuffer(address: GuestAddress(1), byteCount: -1).range == range(1, 0))
  }

  @Test("what two ranges have in common: nothing with an empty one, and the part within 64 bits of an endless one")
  func overlaps() {
    #expect(range(0x1000, 0x1000).overlap(range(0x1800, 0x1000)) == range(0x1800, 0x800))
    #expect(range(0x1000, 0x1000).overlap(range(0, 0x10000)) == range(0x1000, 0x1000))
    #expect(range(0x1000, 0x1000).overlap(range(0x2000, 1)) == nil)
    #expect(range(0x1000, 0x1000).overlap(range(0, 0x1000)) == nil)
    #expect(range(0x1000, 0x1000).overlap(range(0x1800, 0)) == nil)
    #expect(range(0x1800, 0).overlap(range(0x1000, 0x1000)) == nil)
    #expect(range(0, 0).overlap(range(0, 0)) == nil)
    #expect(range(0x1000, .max).overlap(range(.max - 1, 1)) == range(.max - 1, 1))
    #expect(range(.max - 1, 1).overlap(range(0x1000, .max)) == range(.max - 1, 1))
    #expect(range(.max - 1, .max).overlap(range(.max - 3, 3)) == range(.max - 1, 1))
  }

  @Test("every error says something that a person can use")
  func descriptions() {
    let errors: [GuestMemoryError] = [
      outside(1, 2), .unaligned(GuestAddress(1), multipleOf: 2), .divided(range(1, 2)), .noRegions,
      .tooManyRegions(513, most: 512), .emptyOrEndless(range(1, 0)), .overlap(range(0, 2), range(1, 2)),
      .fileTooShort(needed: 2, is: 1), .logTooShort(pages: 1, needed: 2), .tooManyBuffers(most: 3),
      .system(LinuxError(call: "mmap", number: 12)),
    ]
    #expect(Set(errors.map(\.description)).count == errors.count)
  }
}
