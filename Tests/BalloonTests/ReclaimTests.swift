import Balloon
import GuestRAM
import LinuxIO
import Support
import Testing
import VirtioCore
import Virtqueue

@Suite("Balloon: reclaiming real memory") struct ReclaimTests {
  private typealias Guest = BalloonGuest<MemoryReclaimer>

  /// Writes a number into each page, so that there is host memory behind it.
  private func fill(_ range: GuestRange, of memory: GuestMemory) throws {
    for offset in stride(from: UInt64(0), to: range.byteCount, by: 4096) {
      try memory.write(range.start.rawValue + offset | 1, at: GuestAddress(range.start.rawValue + offset))
    }
  }

  @Test(
    "5.5.6: inflating lowers what the kernel counts by what was inflated, with and without MUST_TELL_HOST",
    arguments: [Bit.all, Bit.all & ~Bit.mustTellHost])
  func inflate(features: UInt64) throws {
    let guest = try Guest(reclaimer: MemoryReclaimer(), accepting: features)
    try fill(pages(1024, 2048), of: guest.memory)
    let before = try guest.memory.residentByteCount()
    for first in stride(from: UInt32(1024), to: 2048, by: 256) {
      try guest.send(frames: Array(first..<first + 256).reversed(), to: 0)
    }
    #expect(guest.host.device.counters.reclaimedBytes == 4 << 20)
    // The requests themselves took a page or two.
    let after = try guest.memory.residentByteCount()
    #expect(before - after <= 4 << 20)
    #expect(before - after >= 4 << 20 - 8 * 4096)
    #expect(try guest.memory.read(UInt64.self, at: GuestAddress(1024 * 4096)) == 0)
    #expect(try guest.memory.read(UInt64.self, at: GuestAddress(2048 * 4096)) == 2048 * 4096 | 1)
  }

  @Test("5.5.6: what the guest writes after deflating stays")
  func deflate() throws {
    let guest = try Guest(reclaimer: MemoryReclaimer())
    try fill(pages(1024, 4), of: guest.memory)
    try guest.send(frames: [1024, 1025, 1026, 1027], to: 0)
    try guest.send(frames: [1025, 1026], to: 1)
    try fill(pages(1025, 2), of: guest.memory)
    try guest.send(frames: [1024], to: 0)
    #expect(try guest.memory.read(UInt64.self, at: GuestAddress(1025 * 4096)) == 1025 * 4096 | 1)
    #expect(try guest.memory.read(UInt64.self, at: GuestAddress(1026 * 4096)) == 1026 * 4096 | 1)
  }

  @Test("5.5.6.7: reported pages go back, and nothing beside them")
  func report() throws {
    let guest = try Guest(reclaimer: MemoryReclaimer())
    try fill(pages(1023, 6), of: guest.memory)
    try guest.send([.writable(1024 * 4096, 4 * 4096)], to: 4)
    #expect(guest.host.device.counters.reportedBytes == 4 * 4096)
    let values = try (UInt64(1023)..<1029).map { try guest.memory.read(UInt64.self, at: GuestAddress($0 * 4096)) }
    let expected: [UInt64] = [1023 * 4096 + 1, 0, 0, 0, 0, 1028 * 4096 + 1]
    #expect(values == expected)
  }

  @Test("5.5.6.5: hinted pages stay as they are")
  func hint() throws {
    let guest = try Guest(reclaimer: MemoryReclaimer())
    try fill(pages(1024, 4), of: guest.memory)
    let id = try guest.host.update { (device) throws(BalloonError) in try device.startHinting() }
    try guest.send(bytes: Guest.bytes(id), to: 3)
    try guest.send([.writable(1024 * 4096, 4 * 4096)], to: 3)
    #expect(guest.host.update { $0.takeHints() }.ranges == [pages(1024, 4)])
    #expect(try guest.memory.read(UInt64.self, at: GuestAddress(1024 * 4096)) == 1024 * 4096 | 1)
  }

  // MARK: Large host pages

  /// Two normal MiB and, from 16 MiB on, 8 MiB in pages of 2 MiB. Nothing is ever stored in those, so that no such page
  /// is needed, and the kernel punches the holes all the same.
  private func largePages() throws -> GuestMemory {
    try GuestMemory(regions: [
      MemoryRegion(memoryFile: 2 << 20, start: GuestAddress(0)),
      MemoryRegion(memoryFile: 8 << 20, start: GuestAddress(16 << 20), hugePages: true),
    ])
  }

  /// Not every kernel has large pages.
  private static let hasLargePages =
    (try? MemoryRegion(memoryFile: 8 << 20, start: GuestAddress(0), hugePages: true)) != nil

  private func range(_ first: UInt64, _ count: UInt64) -> GuestRange { pages(4096 + first, count) }

  @Test(
    "a large page goes back when the last piece of it is given up, over any number of requests",
    .enabled(if: hasLargePages))
  func lastPiece() throws {
    let memory = try largePages()
    var reclaimer = MemoryReclaimer()
    #expect(try reclaimer.giveUp(range(0, 511), of: memory) == 0)
    #expect(try reclaimer.giveUp(range(511, 1), of: memory) == 2 << 20)
    #expect(try reclaimer.giveUp(range(600, 1000), of: memory) == 2 << 20)
  }

  @Test("a piece that was taken back keeps its large page", .enabled(if: hasLargePages))
  func takenBack() throws {
    let memory = try largePages()
    var reclaimer = MemoryReclaimer()
    #expect(try reclaimer.giveUp(range(0, 511), of: memory) == 0)
    reclaimer.takeBack(range(7, 1), of: memory)
    #expect(try reclaimer.giveUp(range(511, 1), of: memory) == 0)
    #expect(try reclaimer.giveUp(range(7, 1), of: memory) == 2 << 20)
  }

  @Test("a piece that is only released is not remembered: the guest may use it untold", .enabled(if: hasLargePages))
  func released() throws {
    let memory = try largePages()
    var reclaimer = MemoryReclaimer()
    #expect(try reclaimer.release(range(0, 511), of: memory) == 0)
    #expect(try reclaimer.giveUp(range(511, 1), of: memory) == 0)
    #expect(try reclaimer.release(range(1, 1535), of: memory) == 4 << 20)
    #expect(try reclaimer.release(range(0, 512), of: memory) == 2 << 20)
  }

  @Test(
    "what was given up is known in a new map of the same memory, and forgotten with the guest",
    .enabled(if: hasLargePages))
  func remembered() throws {
    let memory = try largePages()
    var reclaimer = MemoryReclaimer()
    #expect(try reclaimer.giveUp(range(0, 511), of: memory) == 0)
    let tracked = try memory.with(dirtyLog: DirtyLog(coveringUpTo: GuestAddress(32 << 20)))
    #expect(try reclaimer.giveUp(range(511, 1), of: tracked) == 2 << 20)
    #expect(try reclaimer.giveUp(range(512, 511), of: tracked) == 0)
    reclaimer.reset()
    #expect(try reclaimer.giveUp(range(1023, 1), of: tracked) == 0)
  }

  // MARK: Numbers

  @Test("each number comes from whoever knows it, and there is nothing to warn of when memory went down")
  func numbers() throws {
    let guest = try Guest(reclaimer: MemoryReclaimer())
    try fill(pages(1024, 1024), of: guest.memory)
    let target = try BalloonTarget(memoryByteCount: 28 << 20, of: 32 << 20)
    guest.host.update { $0.setTarget(target) }
    let moment = guest.host.device.moment(residentByteCount: try guest.memory.residentByteCount())
    try guest.send(frames: Array(1024..<1536), to: 0)
    try guest.host.writeConfig(Guest.bytes(UInt32(256)), at: 4)
    let resident = try guest.memory.residentByteCount()
    let report = guest.host.device.report(guestByteCount: 32 << 20, residentByteCount: resident, since: moment)
    #expect(report.targetByteCount == 28 << 20)
    #expect(report.actualByteCount == 31 << 20)
    #expect(report.inflatedByteCount == 2 << 20)
    #expect(report.reclaimedByteCount == 2 << 20)
    #expect(report.residentByteCount == resident)
    #expect(report.warning == nil)
  }

  @Test("inflating that frees nothing is told")
  func notLowered() throws {
    let guest = try BalloonGuest(reclaimer: Recorder())
    let moment = guest.host.device.moment(residentByteCount: 100)
    #expect(guest.host.device.report(guestByteCount: 0, residentByteCount: 200, since: moment).warning == nil)
    try guest.send(frames: [1024, 1025], to: 0)
    let same = guest.host.device.report(guestByteCount: 0, residentByteCount: 100, since: moment)
    #expect(same.warning == .residentNotLowered(inflatedByteCount: 8192, before: 100, after: 100))
    #expect(
      same.warning?.description
        == "the guest gave up 8192 bytes, but the host memory behind it went from 100 to 100 bytes")
    #expect(guest.host.device.report(guestByteCount: 0, residentByteCount: 99, since: moment).warning == nil)
    try guest.send(frames: [1024, 1025], to: 1)
    #expect(guest.host.device.report(guestByteCount: 0, residentByteCount: 200, since: moment).warning == nil)
  }

  @Test("an inhibited balloon and a refusing host are told by name")
  func otherWarnings() throws {
    let guest = try BalloonGuest(reclaimer: Recorder())
    let moment = guest.host.device.moment(residentByteCount: 100)
    guest.host.update { $0.isReclaimInhibited = true }
    try guest.send(frames: [1024], to: 0)
    let inhibited = guest.host.device.report(guestByteCount: 0, residentByteCount: 100, since: moment).warning
    #expect(inhibited == .reclaimInhibited(inflatedByteCount: 4096))
    #expect(inhibited?.description.contains("inhibited") == true)

    let failure = GuestMemoryError.system(LinuxError(call: "fallocate", number: 1))
    guest.host.update {
      $0.isReclaimInhibited = false
      $0.reclaimer.failure = failure
    }
    try guest.send(frames: [1025], to: 0)
    let failed = guest.host.device.report(guestByteCount: 0, residentByteCount: 50, since: moment).warning
    #expect(failed == .discardsFailed(count: 1, failure))
    #expect(failed?.description.contains("fallocate") == true)
    let later = guest.host.device.moment(residentByteCount: 50)
    #expect(guest.host.device.report(guestByteCount: 0, residentByteCount: 40, since: later).warning == nil)
  }
}
