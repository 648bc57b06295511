import Glibc
import GuestRAM
import LinuxIO
import Testing

@testable import Migration

/// Memory in files that have room for only a part of it, as on a full file system: to store to the rest would end the process.
@Suite("Migration: a destination whose memory has no room") struct FullMemoryTests {
  private static let pageCount: UInt64 = 2048
  /// What there is room for.
  private static let room: UInt64 = 1024

  private static func memory() throws -> GuestMemory {
    let memory = try GuestMemory(byteCount: pageCount * pageByteCount)
    try fill(memory, pages(100, 300))
    return memory
  }

  private static func fill(_ memory: GuestMemory, _ range: GuestRange) throws {
    try memory.write(bytes: [UInt8](repeating: 7, count: Int(range.byteCount)), at: range.start)
  }

  @Sendable private static func make(_ description: GuestDescription) throws(GuestMemoryError) -> GuestMemory {
    let size = description.memoryByteCount
    let region = try MemoryRegion(file: file(size), byteCount: size, start: GuestAddress(0))
    do throws(LinuxError) {
      try region.duplicateFile()?.truncate(toByteCount: Int(room * pageByteCount))
    } catch {
      throw .system(error)
    }
    return try GuestMemory(regions: [region])
  }

  /// A file in memory that can be made shorter.
  private static func file(_ size: UInt64) throws(GuestMemoryError) -> FileDescriptor {
    do throws(LinuxError) {
      let path = "/dev/shm/virtiokit-test-\(MonotonicClock.now)"
      let file = try FileDescriptor.open(path, for: .readingAndWriting, creating: .always)
      unsafe unlink(path)
      try file.truncate(toByteCount: Int(size))
      return file
    } catch {
      throw .system(error)
    }
  }

  private func isNamed(_ error: MigrationError?) -> Bool {
    guard case .memory(.noMemory(let range))? = error else { return false }
    return range.start.rawValue + range.byteCount > Self.room * pageByteCount
  }

  @Test("a first pass that does not fit is refused, and the guest runs on", arguments: [0, 1, 2])
  func firstPass(furtherCount: Int) throws {
    let memory = try Self.memory()
    try Self.fill(memory, pages(1000, 900))
    let live = ScriptedGuest(SampleGuest(memory: memory, state: [1]))
    let links = try LaneLinks(count: furtherCount, isGated: false)
    var guest = live
    let move = try move(over: links, makeMemory: Self.make) { () throws(MigrationError) in
      try Source(links.main.source, further: links.lanes.map(\.source), producer: "source", timeLimit: patience)
        .move(&guest, policy: MigrationPolicy())
    }
    #expect(isNamed(move.destination.error), "\(move.destination)")
    #expect(move.source.error?.sourceMayRun == true)
    #expect(!guest.calls.contains(.pause))
  }

  @Test("so is a later pass", arguments: [false, true])
  func laterPass(compresses: Bool) throws {
    let memory = try Self.memory()
    let late = ScriptedGuest.Act(ranges: [pages(1500, 3)]) { try Self.fill($0, pages(1500, 3)) }
    let guest = ScriptedGuest(SampleGuest(memory: memory, state: [1]), [late])
    let move = try moveLive(
      guest, over: TestLinks(), policy: MigrationPolicy(downtimeLimit: .zero, compresses: compresses),
      makeMemory: Self.make)
    #expect(isNamed(move.destination.error), "\(move.destination)")
    #expect(move.source.error?.sourceMayRun == true)
    #expect(!move.guest.calls.contains(.pause) || move.guest.calls.contains(.resume))
  }

  @Test("compressed pages that do not fit are refused in the first pass as well")
  func compressed() throws {
    let memory = try Self.memory()
    try Self.fill(memory, pages(1020, 10))
    let move = try moveLive(
      ScriptedGuest(SampleGuest(memory: memory, state: [1])), over: TestLinks(),
      policy: MigrationPolicy(compresses: true), makeMemory: Self.make)
    #expect(isNamed(move.destination.error), "\(move.destination)")
    #expect(move.source.error?.sourceMayRun == true)
  }
}
