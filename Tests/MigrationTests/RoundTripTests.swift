import GuestRAM
import LinuxIO
import Support
import Testing

@testable import Migration

@Suite("Migration: round trip") struct RoundTripTests {
  @Test("what arrives is what was there, and memory only where there is data", arguments: [true, false])
  func roundTrip(verifies: Bool) throws {
    let guest = try SampleGuest()
    let move = try move(guest, verifies: verifies)
    #expect(move.source.error == nil)
    let arrived = try #require(move.destination.value)
    #expect(arrived.guest.state == guest.state)
    #expect(arrived.guest.description.regions == SampleGuest.regions)
    #expect(try arrived.guest.memory.residentRanges() == SampleGuest.data)
    #expect(try SampleGuest.contents(arrived.guest.memory) == SampleGuest.contents(guest.memory))
  }

  @Test("the source's memory is left as it was, with nothing made resident by reading")
  func sourceUntouched() throws {
    let guest = try SampleGuest()
    let resident = try guest.memory.residentRanges()
    let contents = try SampleGuest.contents(guest.memory)
    #expect(try move(guest).source.error == nil)
    #expect(try guest.memory.residentRanges() == resident)
    #expect(try SampleGuest.contents(guest.memory) == contents)
  }

  @Test("both reports count every page once, and the bytes on the wire are the data and a little")
  func reports() throws {
    let guest = try SampleGuest()
    let move = try move(guest)
    let source = try #require(move.source.value)
    let destination = try #require(move.destination.value).report
    for report in [source, destination] {
      #expect(report.dataPageCount == SampleGuest.dataPageCount)
      #expect(report.zeroPageCount == SampleGuest.zeroPageCount)
      #expect(report.absentPageCount == 764 - SampleGuest.dataPageCount - SampleGuest.zeroPageCount)
      #expect(report.stateByteCount == 100_000)
      #expect(report.isVerified && report.acknowledgementError == nil && report.seconds > 0)
      let payload = SampleGuest.dataPageCount * pageByteCount + 100_000
      #expect((payload..<payload + 8192).contains(report.wireByteCount))
    }
    #expect(source.wireByteCount == destination.wireByteCount)
    #expect(source.comparedPageCount == SampleGuest.dataPageCount + SampleGuest.zeroPageCount)
    #expect(destination.comparedPageCount == SampleGuest.dataPageCount)
    #expect(destination.downtimeSeconds == nil)
    #expect(try #require(source.downtimeSeconds) >= 0)
  }

  @Test("the downtime counts from the moment of the pause")
  func downtime() throws {
    let guest = try SampleGuest()
    let links = try TestLinks()
    let pausedAt = MonotonicClock.now - 5_000_000_000
    let thread = try Thread(name: "destination") {
      _ = outcome { () throws(MigrationError) in
        var destination = Destination(links.destination, producer: "", limits: limits)
        _ = try destination.receive()
        return try destination.confirm()
      }
    }
    let report = try Source(links.source, producer: "").move(guest.memory, state: [], pausedAt: pausedAt)
    thread.join()
    #expect(try #require(report.downtimeSeconds) >= 5)
    #expect(report.seconds < 5 || report.downtimeSeconds ?? 0 > report.seconds)
  }

  @Test("a guest that never ran is moved without a page")
  func untouched() throws {
    let memory = try GuestMemory(byteCount: 1 << 20)
    let links = try TestLinks()
    let thread = try Thread(name: "destination") {
      _ = outcome { () throws(MigrationError) in
        var destination = Destination(links.destination, producer: "", limits: limits)
        _ = try destination.receive()
        return try destination.confirm()
      }
    }
    let report = try Source(links.source, producer: "").move(memory, state: [])
    thread.join()
    #expect(report.absentPageCount == 256 && report.comparedPageCount == 0 && report.isVerified)
    #expect(try memory.residentByteCount() == 0)
  }

  @Test("random maps of data, zeros and holes arrive as they were, moved there and back again")
  func randomMaps() throws {
    var generator = SeededGenerator(for: "random maps")
    for _ in 0..<4 {
      let memory = try GuestMemory(
        regions: [
          MemoryRegion(memoryFile: 300 * 4096, start: address(0)),
          MemoryRegion(memoryFile: 40 * 4096, start: address(300 * 4096)),
        ])
      var expected = [UInt8](repeating: 0, count: 340 * 4096)
      for page in 0..<340 where generator.next() % 3 != 0 {
        let bytes = generator.next() % 3 == 0 ? [UInt8](repeating: 0, count: 16) : generator.bytes(16)
        let offset = page * 4096 + Int(generator.next() % 4080)
        expected.replaceSubrange(offset..<offset + 16, with: bytes)
        try memory.write(bytes: bytes, at: address(UInt64(offset)))
      }
      var guest = SampleGuest(memory: memory, state: generator.bytes(10))
      for _ in 0..<2 {
        let arrived = try #require(try move(guest).destination.value).guest
        guest = SampleGuest(memory: arrived.memory, state: arrived.state)
      }
      #expect(try guest.memory.readBytes(expected.count, at: address(0)) == expected)
    }
  }
}
