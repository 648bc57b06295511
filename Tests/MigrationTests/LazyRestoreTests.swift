import Foundation
import GuestRAM
import LinuxIO
import Support
import Synchronization
import Testing

@testable import Migration

/// The errors that a restore tells its owner.
private final class Told: Sendable {
  let errors = Mutex<[MigrationError]>([])
  var hear: @Sendable (MigrationError) -> Void { { (error) in self.errors.withLock { $0.append(error) } } }
}

@Suite(
  "Migration: lazy restore", .serialized,
  .enabled(if: MissingPages.isAvailable, "SKIPPED: this process may not have a userfaultfd that system calls wait for"))
struct LazyRestoreTests {
  private static func save(_ sample: SampleGuest, in scratch: borrowing ScratchDirectory) throws -> String {
    let path = "\(scratch.path)/guest"
    _ = try Source(MigrationLink.connect(to: .file(path: path), within: patience), producer: "source")
      .move(sample.memory, state: sample.state)
    return path
  }

  private static func differs(_ memory: GuestMemory, from other: GuestMemory, in range: GuestRange) throws -> Bool {
    let count = Int(range.byteCount)
    return try memory.readBytes(count, at: range.start) != other.readBytes(count, at: range.start)
  }

  /// All pages of the guest, each by itself.
  private static var everyPage: [GuestRange] {
    SampleGuest.regions.flatMap { (region) in
      stride(from: 0, to: region.byteCount, by: 4096).map {
        GuestRange(start: address(region.start.rawValue + $0), byteCount: pageByteCount)
      }
    }
  }

  @Test("pages that several threads touch while others are being read are those that were saved")
  func threads() throws {
    let sample = try SampleGuest()
    let scratch = try ScratchDirectory()
    let saved = try SavedGuest(file: Self.save(sample, in: scratch), limits: limits)
    #expect(saved.state == sample.state && saved.description.regions == SampleGuest.regions)
    let seed = SeededGenerator(for: "LazyRestoreTests.threads").seed
    let told = Told()
    let restored = try saved.restore(failed: told.hear)
    let wrong = Atomic(0)
    let memory = restored.memory
    let threads = try (0..<3 as Range<UInt64>).map { (index) in
      try Started("guest") {
        var generator = SeededGenerator(seed: seed &+ index)
        for page in Self.everyPage.shuffled(using: &generator)
        where (try? Self.differs(memory, from: sample.memory, in: page)) != false {
          wrong.add(1, ordering: .relaxed)
        }
      }
    }
    for thread in threads { thread.join() }
    let report = try #require(try restored.waitUntilWhole(within: patience))
    #expect(wrong.load(ordering: .relaxed) == 0)
    #expect(report.pageCount == SampleGuest.dataPageCount)
    #expect(restored.remainingByteCount == 0 && told.errors.withLock { $0.isEmpty })
  }

  @Test("of pages that were saved in several passes the last one counts, zeros too")
  func passes() throws {
    let sample = try SampleGuest()
    let scratch = try ScratchDirectory()
    let path = "\(scratch.path)/guest"
    let far = pages(0x40000 + 200, 9)
    var guest = ScriptedGuest(
      sample, [.fill(pages(40, 8), with: 3), .fill(pages(41, 1), with: 0), .fill(far, with: 9), .discard(pages(43, 1))])
    _ = try Source(MigrationLink.connect(to: .file(path: path), within: patience), producer: "source")
      .move(&guest, policy: MigrationPolicy(downtimeLimit: .zero))
    let restored = try SavedGuest(file: path, limits: limits).restore { (_) in }
    _ = try #require(try restored.waitUntilWhole(within: patience))
    for range in SampleGuest.regions { #expect(try !Self.differs(restored.memory, from: sample.memory, in: range)) }
    let link = try MigrationListener(.file(path: path)).accept(within: patience)
    var destination = Destination(link, producer: "destination", limits: limits)
    let eager = try destination.receive().memory
    for range in SampleGuest.regions { #expect(try !Self.differs(restored.memory, from: eager, in: range)) }
  }

  @Test("a page that is given back reads as zeros, whether it had come or not")
  func discards() throws {
    let sample = try SampleGuest()
    let scratch = try ScratchDirectory()
    let saved = try SavedGuest(file: Self.save(sample, in: scratch), limits: limits)
    var generator = SeededGenerator(for: "LazyRestoreTests.discards")
    for _ in 0..<5 {
      let restored = try saved.restore { (_) in }
      let gone = Set(Self.everyPage.shuffled(using: &generator).prefix(300))
      for page in gone { try restored.memory.discard(page) }
      _ = try #require(try restored.waitUntilWhole(within: patience))
      for page in Self.everyPage {
        if gone.contains(page) {
          #expect(try restored.memory.isZero(page))
        } else {
          #expect(try !Self.differs(restored.memory, from: sample.memory, in: page))
        }
      }
    }
  }

  // MARK: - Damage

  /// Restores what can be restored: either all of it is there, or an error has been told, and whatever is there is right.
  private func check(_ path: String, _ sample: SampleGuest, _ what: String) throws {
    let saved: SavedGuest
    do { saved = try SavedGuest(file: path, limits: limits) } catch { return }
    let restored = try saved.restore { (_) in }
    let end = outcome { () throws(MigrationError) in try restored.waitUntilWhole(within: patience) }
    guard case .failure(let error) = end else {
      Issue.record("\(what): unnoticed")
      return
    }
    if case .damagedPages = error {} else { Issue.record("\(what): \(error)") }
    for range in try restored.memory.residentRanges() {
      #expect(try !Self.differs(restored.memory, from: sample.memory, in: range), "\(what)")
    }
    restored.stop()
  }

  @Test("a file that was not written to its end gives no guest")
  func truncated() throws {
    let sample = try SampleGuest(stateByteCount: 100)
    let scratch = try ScratchDirectory()
    let path = try Self.save(sample, in: scratch)
    let whole = try Data(contentsOf: URL(fileURLWithPath: path))
    for count in stride(from: 0, to: whole.count, by: whole.count / 97) + [whole.count - 1] {
      try whole.prefix(count).write(to: URL(fileURLWithPath: path))
      #expect(outcome { () throws(MigrationError) in try SavedGuest(file: path, limits: limits) }.error != nil)
    }
  }

  @Test("a file that is damaged anywhere gives no guest, or gives it without the damaged pages and says so")
  func damaged() throws {
    let sample = try SampleGuest(stateByteCount: 100)
    let scratch = try ScratchDirectory()
    let path = try Self.save(sample, in: scratch)
    let whole = try Data(contentsOf: URL(fileURLWithPath: path))
    var generator = SeededGenerator(for: "LazyRestoreTests.damaged")
    let places = Array(0..<200) + (0..<60).map { _ in Int.random(in: 0..<whole.count, using: &generator) }
    for index in places + Array(whole.count - 200..<whole.count) {
      var changed = whole
      changed[index] ^= 1 << UInt8.random(in: 0..<8, using: &generator)
      try changed.write(to: URL(fileURLWithPath: path))
      try check(path, sample, "byte \(index)")
    }
  }

  /// A restore of which one page cannot be had, with a thread that waits for it, and what it gets in the end.
  private func restoreDamaged(
    _ decide: (LazyMemory, _ mend: () throws -> Void) throws -> Void
  ) throws -> (got: UInt64, right: UInt64) {
    let sample = try SampleGuest()
    let scratch = try ScratchDirectory()
    let path = try Self.save(sample, in: scratch)
    let saved = try SavedGuest(file: path, limits: limits)
    let page = try #require(saved.index.page(at: pages(50, 1).start))
    let frame = try #require(saved.index.frame(of: page))
    let file = try FileDescriptor.open(path, for: .readingAndWriting)
    let byte = try #require(try file.readBytes(exactly: 1, at: Int(frame.offset)))
    try file.writeAll([byte[0] ^ 1], at: Int(frame.offset))
    let told = Told()
    let restored = try saved.restore(failed: told.hear)
    #expect(
      throws: MigrationError.damagedPages(GuestRange(start: .init(frame.start), byteCount: UInt64(frame.byteCount)))
    ) { try restored.waitUntilWhole(within: patience) }
    let memory = restored.memory
    let got = try Handover<UInt64>()
    let place = address(50 * pageByteCount + 4088)
    let thread = try Started("guest") { got.put((try? memory.read(UInt64.self, at: place)) ?? 0) }
    try decide(restored) { try file.writeAll(byte, at: Int(frame.offset)) }
    thread.join()
    #expect(told.errors.withLock { $0.count } == 1)
    return (got.wait(), try sample.memory.read(UInt64.self, at: place))
  }

  @Test("a page that is damaged when it is needed comes once the file has been put right")
  func mended() throws {
    let (got, right) = try restoreDamaged { (restored, mend) in
      try mend()
      restored.retry()
      _ = try #require(try restored.waitUntilWhole(within: patience))
    }
    #expect(got == right && right != 0)
  }

  @Test("whoever waits for a damaged page is let go when the owner ends the restore")
  func abandoned() throws {
    let (got, _) = try restoreDamaged { (restored, _) in
      restored.stop()
      #expect(throws: MigrationError.self) { try restored.waitUntilWhole(within: patience) }
    }
    #expect(got == 0)
  }

  @Test("compressed pages are refused by name")
  func compressed() throws {
    let scratch = try ScratchDirectory()
    let path = "\(scratch.path)/guest"
    var guest = ScriptedGuest(try SampleGuest())
    _ = try Source(MigrationLink.connect(to: .file(path: path), within: patience), producer: "source")
      .move(&guest, policy: MigrationPolicy(compresses: true))
    #expect(throws: MigrationError.onlyEagerly) { try SavedGuest(file: path, limits: limits) }
  }

  @Test("frames that have nothing more to give are let go of, however often pages come again")
  func bounded() throws {
    var index = SavedIndex([pages(0, 4), pages(16, 4)])
    for number in 1...1000 {
      var frame = PageFrame()
      _ = frame.append(PageRun(start: pages(UInt64(number % 2) * 16, 1).start, pageCount: 2, isZero: false))
      index.add(frame, at: number << 20, start: 0, digest: UInt64(number))
    }
    #expect(index.frames.count <= 2 * index.pageCount + 16)
    #expect(index.count == 4)
    #expect(index.frame(of: 1)?.digest == 1000 && index.frame(of: 4)?.digest == 999)
    index.clear(pages(16, 1))
    #expect(index.nextPage(from: 2) == 5 && index.frame(of: 4) == nil && index.address(of: 5) == pages(17, 1).start)
  }
}
