import GuestRAM
import LinuxIO
import Support
import Synchronization
import Testing

@testable import Migration

/// A guest that somebody has to watch when it is stopped.
private struct WatchedGuest<Guest: LiveGuest>: LiveGuest {
  var guest: Guest
  /// Called while the guest stands still.
  let stopped: (GuestMemory) throws(MigrationError) -> Void
  var isPaused = false

  var memory: GuestMemory { guest.memory }
  mutating func beginTracking() throws(MigrationError) { try guest.beginTracking() }
  mutating func takeWrites() throws(MigrationError) -> [GuestRange] { try guest.takeWrites() }
  mutating func endTracking() { guest.endTracking() }

  mutating func pause() throws(MigrationError) -> [UInt8] {
    let state = try guest.pause()
    try stopped(memory)
    return state
  }

  mutating func resume() { guest.resume() }
}

/// All that memory holds, page by page, where it holds anything.
private func contents(_ memory: GuestMemory) throws(MigrationError) -> [UInt64: [UInt8]] {
  try inGuestMemory { () throws(GuestMemoryError) in
    var contents: [UInt64: [UInt8]] = [:]
    for range in try memory.residentRanges() {
      for offset in stride(from: 0, to: range.byteCount, by: Int(pageByteCount)) {
        let page = GuestRange(start: address(range.start.rawValue + offset), byteCount: pageByteCount)
        guard try !memory.isZero(page) else { continue }
        contents[page.start.rawValue] = try memory.readBytes(Int(pageByteCount), at: page.start)
      }
    }
    return contents
  }
}

@Suite(
  "Migration: snapshots of a guest that runs on", .serialized,
  .enabled(if: FrozenMemory.isAvailable, "SKIPPED: this process may not have a userfaultfd that system calls wait for"))
struct SnapshotTests {
  private let limits = DestinationLimits(mostMemory: 64 << 20, time: patience)

  private func restore(_ path: String) throws -> ArrivedGuest {
    let link = try MigrationListener(.file(path: path)).accept(within: patience)
    var destination = Destination(link, producer: "destination", limits: limits)
    let guest = try destination.receive()
    _ = try destination.confirm()
    return guest
  }

  private func snapshot<Guest: LiveGuest>(
    _ guest: inout Guest, to path: String, _ policy: SnapshotPolicy = SnapshotPolicy(),
    unless cancellation: Cancellation? = nil, stopped: (Double) -> Void = { _ in }
  ) -> Outcome<MigrationReport> {
    do throws(MigrationError) {
      let link = try MigrationLink.connect(to: .file(path: path), within: patience)
      return .success(
        try Source(link, producer: "source")
          .snapshot(&guest, policy: policy, unless: cancellation, stopped: stopped))
    } catch {
      return .failure(error)
    }
  }

  @Test(
    "a snapshot is memory as it was when the guest was stopped, and the guest goes on", arguments: [8 << 12, 64 << 20])
  func exact(mostBytesAside: Int) throws {
    let scratch = try ScratchDirectory()
    let seed = SeededGenerator(for: "SnapshotTests.exact").seed
    let writing = try WritingGuest(.asynchronous, seed: seed)
    defer { writing.end() }
    for round in 0..<4 {
      let path = "\(scratch.path)/\(round)"
      var then: [UInt64: [UInt8]] = [:]
      var guest = WatchedGuest(guest: writing) { (memory) throws(MigrationError) in then = try contents(memory) }
      // Nothing has been saved by then; with room for all of its pages it goes on all the same.
      let hasRoom = mostBytesAside > 1 << 20
      var went: Outcome<Void> = .success(())
      let report = try snapshot(&guest, to: path, SnapshotPolicy(mostBytesAside: mostBytesAside)) { (_) in
        if hasRoom { went = outcome { () throws(MigrationError) in try writing.waitForRounds(40) } }
      }.get()
      #expect(went.error == nil)
      let arrived = try restore(path)
      #expect(try contents(arrived.memory) == then)
      #expect(arrived.state == [1, 2, 3])
      #expect(report.downtimeSeconds ?? 99 <= report.seconds)
      if hasRoom { #expect(report.asidePageCount > 20) }
      try writing.waitForRounds(20)
      let restored = try SavedGuest(file: path, limits: limits).restore { (_) in }
      _ = try #require(try restored.waitUntilWhole(within: patience))
      #expect(try contents(restored.memory) == then)
    }
  }

  @Test("system calls and discards while memory is saved find what they need and harm nothing")
  func everyWriter() throws {
    let scratch = try ScratchDirectory()
    let sample = try SampleGuest()
    let then = try contents(sample.memory)
    var guest = ScriptedGuest(sample)
    let memory = sample.memory
    let path = "\(scratch.path)/guest"
    var failure: (any Error)?
    _ = try snapshot(&guest, to: path) { (_) in
      do {
        try memory.discard(pages(40, 24))
        try memory.clear(GuestRange(start: address(0x40000 * pageByteCount + 100), byteCount: 200 * pageByteCount))
        let file = try FileDescriptor.open("/dev/zero")
        var vectors = IOVectors(capacity: 1)
        let buffer = GuestBuffer(address: pages(0, 3).start, byteCount: Int(3 * pageByteCount))
        let count = try memory.fill([buffer], using: &vectors) { (vectors) throws(LinuxError) in
          try file.readAll(into: vectors)
        }
        #expect(count == buffer.byteCount)
        // A hole at the moment that is saved.
        try memory.write(UInt64(1), at: pages(30, 1).start)
      } catch {
        failure = error
      }
    }.get()
    #expect(failure == nil)
    #expect(try contents(restore(path).memory) == then)
    #expect(try memory.isZero(pages(40, 24)) && memory.isZero(pages(0, 3)))
    #expect(try memory.read(UInt64.self, at: pages(30, 1).start) == 1)
    #expect(guest.calls == [.pause, .resume])
  }

  @Test("a guest that cannot be stopped, and one whose file is full, run on, and nobody waits for anything")
  func failures() throws {
    let sample = try SampleGuest()
    var guest = ScriptedGuest(sample)
    let full = snapshotError(&guest, to: "/dev/full")
    #expect(full == .system(LinuxError(call: "writev", number: 28)))
    let scratch = try ScratchDirectory()
    let failure = MigrationError.guest("busy")
    guest.interrupt = { (_) throws(MigrationError) in throw failure }
    guest.calls = []
    #expect(snapshotError(&guest, to: "\(scratch.path)/guest") == failure)
    #expect(guest.calls == [.pause, .resume])
    try sample.memory.write(UInt64(5), at: pages(40, 1).start)
    #expect(throws: MigrationError.self) { try restore("\(scratch.path)/guest") }
  }

  private func snapshotError(_ guest: inout ScriptedGuest, to path: String) -> MigrationError? {
    snapshot(&guest, to: path).error
  }

  @Test("a snapshot that is called off lets writers go that wait for room")
  func cancelled() throws {
    let scratch = try ScratchDirectory()
    let sample = try SampleGuest()
    let memory = sample.memory
    let cancellation = try Cancellation()
    var guest = ScriptedGuest(sample)
    var writer: Started?
    let error = snapshot(
      &guest, to: "\(scratch.path)/guest", SnapshotPolicy(mostBytesAside: 4096), unless: cancellation
    ) {
      (_) in
      // More pages than there is room for.
      writer = try? Started("guest") {
        for range in SampleGuest.data {
          try? memory.write(bytes: [UInt8](repeating: 1, count: Int(range.byteCount)), at: range.start)
        }
      }
      cancellation.cancel()
    }.error
    try #require(writer).join()
    #expect(error == .cancelled && error?.sourceMayRun == true)
    #expect(try memory.read(UInt8.self, at: SampleGuest.data[4].start) == 1)
  }

  @Test("a snapshot is not sent to a peer, who would have to be given the guest")
  func peer() throws {
    let links = try TestLinks()
    var guest = ScriptedGuest(try SampleGuest())
    let error: MigrationError?
    do throws(MigrationError) {
      _ = try Source(links.source, producer: "source").snapshot(&guest)
      error = nil
    } catch {
      guard case .guest = error else { throw TestFailure("\(error)") }
      return #expect(guest.calls.isEmpty)
    }
    Issue.record("\(String(describing: error))")
  }
}
