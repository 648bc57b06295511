import GuestRAM
import LinuxIO
import Support
import Synchronization
import Testing

@testable import Migration

@Suite("Migration: agreement") struct AgreementTests {
  private let notes = [GuestDescription.Note(name: "machine", text: "two cards"), .init(name: "disk", text: "")]

  @Test("the destination judges layout and notes before the first page")
  func seesDescription() throws {
    let seen = Mutex<GuestDescription?>(nil)
    let guest = try SampleGuest()
    let links = try TestLinks()
    let made = Mutex(0)
    let move = try move(
      guest, over: links, notes: notes,
      makeMemory: { (description) throws(GuestMemoryError) in
        made.withLock { $0 += 1 }
        return try description.makeMemory()
      },
      refusing: { (description) in
        seen.withLock { $0 = description }
        return "a card too many"
      })
    let description = try #require(seen.withLock { $0 })
    #expect(description.regions == SampleGuest.regions && description.notes == notes)
    #expect(description.note("machine") == "two cards" && description.note("net") == nil)
    let refusal = MigrationError.refused(source: "source", destination: "destination", reason: "a card too many")
    #expect(move.source.error == refusal && move.destination.error == refusal)
    #expect(refusal.sourceMayRun)
    #expect(made.withLock { $0 } == 0)
    // Opening, hello, description, and at most what answers the refusal.
    #expect(links.source.messageCount <= 4)
  }

  @Test("more memory than the limit is refused before any is made, and the source hears why")
  func memoryLimit() throws {
    let most = SampleGuest.regions.reduce(0) { $0 + $1.byteCount }
    let guest = try SampleGuest()
    let fits = try move(guest, limits: DestinationLimits(mostMemory: most, time: patience))
    #expect(fits.source.error == nil)
    let move = try move(guest, limits: DestinationLimits(mostMemory: most - 1, time: patience))
    let error = MigrationError.tooMuchMemory(byteCount: most, most: most - 1)
    #expect(move.destination.error == error)
    #expect(move.source.error == .peerFailed(error.description))
  }

  @Test("more state than the limit is refused")
  func stateLimit() throws {
    let guest = try SampleGuest()
    let fits = try move(guest, limits: DestinationLimits(mostMemory: 1 << 30, mostState: 100_000, time: patience))
    #expect(fits.source.error == nil)
    let move = try move(guest, limits: DestinationLimits(mostMemory: 1 << 30, mostState: 99_999, time: patience))
    let error = MigrationError.tooMuchState(byteCount: 100_000, most: 99_999)
    #expect(move.destination.error == error)
    #expect(move.source.error == .peerFailed(error.description))
  }

  @Test("memory that is in use, or of another layout, is not taken for the guest")
  func unsuitableMemory() throws {
    let guest = try SampleGuest()
    let used = try GuestDescription(regions: SampleGuest.regions, notes: []).makeMemory()
    try used.write(UInt8(0), at: address(0))
    let other = try GuestMemory(byteCount: 1 << 20)
    let layouts = MigrationError.otherLayout(source: SampleGuest.regions, destination: other.regions.map(\.range))
    #expect(layouts.description.contains("source: \(SampleGuest.regions[0]), "))
    #expect(layouts.description.contains("; destination: \(other.regions[0].range)"))
    for (memory, error) in [(used, .unsuitableMemory), (other, layouts)] as [(GuestMemory, MigrationError)] {
      let move = try move(guest, over: TestLinks(), makeMemory: { _ throws(GuestMemoryError) in memory })
      #expect(move.destination.error == error)
      #expect(move.source.error == .peerFailed(error.description))
    }
  }

  @Test("memory that cannot be had is named on both sides")
  func noMemory() throws {
    let guest = try SampleGuest()
    let failure = GuestMemoryError.system(LinuxError(call: "memfd_create", number: 12))
    let move = try move(guest, over: TestLinks(), makeMemory: { _ throws(GuestMemoryError) in throw failure })
    #expect(move.destination.error == .memory(failure))
    #expect(move.source.error == .peerFailed(failure.description))
  }

  @Test("a guest that cannot be restored is left to the source, with the reason", arguments: [true, false])
  func refusedAfterArrival(withReason: Bool) throws {
    let guest = try SampleGuest()
    let links = try TestLinks()
    let thread = try Thread(name: "destination") {
      _ = outcome { () throws(MigrationError) in
        var destination = Destination(links.destination, producer: "", limits: limits)
        _ = try destination.receive()
        if withReason { destination.refuse("no such disk") }
      }
      links.destination.shutDown()
    }
    let sent = outcome { () throws(MigrationError) in
      try Source(links.source, producer: "").move(guest.memory, state: guest.state)
    }
    thread.join()
    #expect(sent.error == (withReason ? .peerFailed(MigrationError.unusable("no such disk").description) : .peerGone))
    #expect(sent.error?.sourceMayRun == true)
  }

  @Test("a destination that gave up before the source said a word is heard all the same")
  func goneEarly() throws {
    let links = try TestLinks()
    let reason = MigrationError.unsupportedVersion(9, newest: 1)
    var stream = FrameStream(links.destination, limit: .seconds(5))
    try stream.open(Hello(.destination, producer: "destination"))
    _ = stream.giveUp(reason)
    links.destination.shutDown()
    let guest = try SampleGuest()
    let sent = outcome { () throws(MigrationError) in
      try Source(links.source, producer: "").move(guest.memory, state: guest.state)
    }
    #expect(sent.error == .peerFailed(reason.description))
  }

  @Test("notes too many or too long are refused at the source")
  func noteLimits() throws {
    let guest = try SampleGuest()
    let long = String(repeating: "x", count: 4097)
    let tooLong = try move(guest, over: TestLinks(), notes: [.init(name: "a", text: long)])
    #expect(tooLong.source.error == .noteTooLong("a"))
    let many = try move(
      guest, over: TestLinks(), notes: (0..<65).map { .init(name: "\($0)", text: "") })
    #expect(many.source.error == .tooManyNotes(65, most: 64))
    for move in [tooLong, many] { #expect(move.destination.error != nil) }
  }

  @Test("two ends of the same role do not move anything")
  func sameRole() throws {
    let guest = try SampleGuest()
    let links = try TestLinks()
    let other = try Handover<Outcome<MigrationReport>>()
    let thread = try Thread(name: "second source") {
      other.put(
        outcome { () throws(MigrationError) in
          try Source(links.destination, producer: "").move(guest.memory, state: [])
        })
    }
    let sent = outcome { () throws(MigrationError) in
      try Source(links.source, producer: "").move(guest.memory, state: [])
    }
    thread.join()
    let errors = [sent.error, other.wait().error]
    #expect(errors.contains(.sameRole))
    #expect(errors.allSatisfy { $0 != nil })
  }
}
