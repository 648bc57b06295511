import Glibc
import GuestRAM
import LinuxIO
import Testing

@testable import Migration

private let handOverLimits = DestinationLimits(mostMemory: 16 << 20, mostState: 1 << 20, time: patience, mostFiles: 8)

/// Gives a guest that stands still from this thread to another one over any kind of connection.
private func handOver<SourceLink: Channel, DestinationLink: Channel>(
  _ memory: GuestMemory, state: [UInt8] = [1, 2, 3], from source: SourceLink, to destination: DestinationLink,
  limits: DestinationLimits = handOverLimits
) throws -> Move {
  let received = try Handover<Outcome<Move.Arrived>>()
  let thread = try Thread(name: "destination") {
    received.put(
      outcome { () throws(MigrationError) in
        var destination = Destination(destination, producer: "destination", limits: limits)
        let guest = try destination.receive()
        return Move.Arrived(guest: guest, report: try destination.confirm())
      })
    (destination as? TestLink)?.shutDown()
  }
  let sent = outcome { () throws(MigrationError) in
    try Source(source, producer: "source", timeLimit: limits.time).handOver(memory, state: state)
  }
  (source as? TestLink)?.shutDown()
  thread.join()
  return Move(source: sent, destination: received.wait())
}

extension GuestMemory {
  fileprivate func files() throws -> [FileStatus.Identity] {
    try regions.compactMap { try $0.duplicateFile()?.status.identity }
  }
}

@Suite("Migration: local hand-over") struct HandOverTests {
  @Test("memory changes hands and is neither read nor sent", arguments: [LinkKind.unix, .descriptor])
  func stopped(kind: LinkKind) throws {
    let guest = try SampleGuest()
    let scratch = try ScratchDirectory()
    let links = try kind.connect(in: scratch.path)
    let move = try handOver(guest.memory, state: guest.state, from: links.source, to: links.destination)
    let (report, arrived) = (try move.source.get(), try move.destination.get())
    #expect(arrived.guest.state == guest.state)
    #expect(try arrived.guest.memory.files() == guest.memory.files())
    #expect(arrived.guest.memory.regions.map(\.range) == SampleGuest.regions)
    try arrived.guest.memory.write(UInt64(0x1234_5678), at: address(8 * pageByteCount))
    #expect(try guest.memory.read(UInt64.self, at: address(8 * pageByteCount)) == 0x1234_5678)
    #expect(report.handedOverByteCount == guest.memory.byteCount && report.dataPageCount == 0)
    #expect(arrived.report.handedOverByteCount == guest.memory.byteCount)
    #expect(report.wireByteCount < UInt64(guest.state.count) + 1000)
  }

  @Test("regions of one file come as one file, each at its place")
  func oneFile() throws {
    let file = try MemoryFile.create(name: "ram", byteCount: 8 << 20)
    let first = try file.duplicate()
    let second = try file.duplicate()
    let memory = try GuestMemory(regions: [
      MemoryRegion(file: first, at: 4 << 20, byteCount: 4 << 20, start: address(0)),
      MemoryRegion(file: second, byteCount: 4 << 20, start: address(1 << 32)),
    ])
    try memory.write(UInt64(7), at: address(4096))
    let links = try TestLinks()
    let limits = DestinationLimits(mostMemory: 16 << 20, time: patience, mostFiles: 1)
    let arrived = try handOver(memory, from: links.source, to: links.destination, limits: limits).destination.get()
    #expect(arrived.guest.memory.regions.map(\.fileOffset) == [4 << 20, 0])
    #expect(try arrived.guest.memory.read(UInt64.self, at: address(4096)) == 7)
  }

  @Test("a guest that runs is stopped once its memory is mapped there, and is not asked for its writes")
  func live() throws {
    let (sample, links) = (try SampleGuest(), try TestLinks())
    var guest = ScriptedGuest(sample)
    let received = try Handover<Outcome<Move.Arrived>>()
    let thread = try Thread(name: "destination") {
      received.put(
        outcome { () throws(MigrationError) in
          var destination = Destination(links.destination, producer: "destination", limits: handOverLimits)
          let guest = try destination.receive()
          return Move.Arrived(guest: guest, report: try destination.confirm())
        })
    }
    let report = try Source(links.source, producer: "source", timeLimit: patience).handOver(&guest)
    thread.join()
    #expect(try received.wait().get().guest.state == sample.state)
    #expect(guest.calls == [.pause])
    #expect(report.downtimeSeconds ?? 1 <= report.seconds)
  }

  @Test("a guest that cannot be stopped, or not be given away, runs on")
  func liveFails() throws {
    for isUnstoppable in [true, false] {
      let links = try TestLinks()
      var guest = ScriptedGuest(try SampleGuest())
      let failure = MigrationError.guest("busy")
      guest.interrupt = { (_) throws(MigrationError) in if isUnstoppable { throw failure } }
      let thread = try Thread(name: "destination") {
        var destination = Destination(links.destination, producer: "destination", limits: handOverLimits)
        let arrived = outcome { () throws(MigrationError) in try destination.receive() }
        if arrived.error == nil { destination.refuse("no") }
      }
      let sent: MigrationError?
      do throws(MigrationError) {
        _ = try Source(links.source, producer: "source", timeLimit: patience).handOver(&guest)
        sent = nil
      } catch {
        sent = error
      }
      thread.join()
      let refusal = MigrationError.peerFailed(MigrationError.unusable("no").description)
      #expect(sent == (isUnstoppable ? failure : refusal))
      #expect(guest.calls == [.pause, .resume])
    }
  }

  // MARK: - What is refused

  @Test("memory that others cannot share is refused by name, and the guest is not stopped")
  func unshareable() throws {
    let anonymous = try GuestMemory(regions: [MemoryRegion(anonymous: 1 << 20, start: address(0))])
    let scratch = try ScratchDirectory()
    let disk = try FileDescriptor.open("\(scratch.path)/ram", for: .readingAndWriting, creating: .always)
    try disk.truncate(toByteCount: 1 << 20)
    let onDisk = try GuestMemory(regions: [MemoryRegion(file: disk, byteCount: 1 << 20, start: address(0))])
    for (memory, word) in [(anonymous, "alone"), (onDisk, "file of")] {
      let links = try TestLinks()
      var guest = ScriptedGuest(SampleGuest(memory: memory, state: []))
      var failure: MigrationError?
      do throws(MigrationError) {
        _ = try Source(links.source, producer: "source", timeLimit: patience).handOver(&guest)
      } catch {
        failure = error
      }
      guard case .cannotHandOver(let reason) = failure else { throw TestFailure("\(String(describing: failure))") }
      #expect(reason.contains(word))
      #expect(guest.calls.isEmpty)
    }
  }

  @Test("a connection that passes no descriptors is refused, and the error names those that do")
  func plainLink() throws {
    let memory = try SampleGuest().memory
    let scratch = try ScratchDirectory()
    for kind in [LinkKind.tcp, .pipes, .commands] {
      let links = try kind.connect(in: scratch.path)
      let error = outcome { () throws(MigrationError) in
        try Source(links.source, producer: "source").handOver(memory, state: [])
      }.error
      guard case .cannotHandOver(let reason) = error else { throw TestFailure("\(String(describing: error))") }
      #expect(reason.contains("unix:PATH"))
    }
  }

  @Test("a destination that takes no files refuses before any come")
  func notPermitted() throws {
    let (guest, links) = (try SampleGuest(), try TestLinks())
    let limits = DestinationLimits(mostMemory: 16 << 20, time: patience)
    let move = try handOver(guest.memory, from: links.source, to: links.destination, limits: limits)
    let refusal = MigrationError.refused(
      source: "source", destination: "destination", reason: "it takes no memory files")
    #expect(move.source.error == refusal && move.destination.error == refusal)
    // The opening, what is wanted, and that it is given up.
    #expect(links.source.messageCount == 3)
  }

  @Test("a guest in more files than are taken stays at the source")
  func tooManyFiles() throws {
    let (guest, links) = (try SampleGuest(), try TestLinks())
    let limits = DestinationLimits(mostMemory: 16 << 20, time: patience, mostFiles: 1)
    let move = try handOver(guest.memory, from: links.source, to: links.destination, limits: limits)
    #expect(move.destination.error == .unusableFiles("more came than may"))
    #expect(move.source.error?.sourceMayRun == true)
  }

  @Test("what has been handed over cannot be made shorter under whoever has it")
  func sealed() throws {
    let file = try MemoryFile.create(name: "ram", byteCount: 1 << 20, isResizable: true)
    let mapped = try file.duplicate()
    let memory = try GuestMemory(regions: [MemoryRegion(file: mapped, byteCount: 1 << 20, start: address(0))])
    let links = try TestLinks()
    #expect(try handOver(memory, from: links.source, to: links.destination).destination.error == nil)
    #expect(throws: LinuxError(call: "ftruncate", number: EPERM)) { try file.truncate(toByteCount: 4096) }
  }

  // MARK: - Faults

  private let hasty = DestinationLimits(mostMemory: 16 << 20, time: .milliseconds(150), mostFiles: 8)

  private func messageCounts(_ guest: SampleGuest) throws -> (source: Int, destination: Int) {
    let links = try TestLinks()
    #expect(try handOver(guest.memory, from: links.source, to: links.destination).source.error == nil)
    return (links.source.messageCount, links.destination.messageCount)
  }

  @Test("whatever happens to a message of a hand-over, at most one side runs", arguments: Fault.allCases)
  func faults(fault: Fault) throws {
    let guest = try SampleGuest()
    let contents = try SampleGuest.contents(guest.memory)
    let counts = try messageCounts(guest)
    for index in 0..<counts.source {
      let links = try TestLinks(source: fault.tamper(at: index))
      let move = try handOver(guest.memory, from: links.source, to: links.destination, limits: hasty)
      move.checkOneRuns(isLastWord: index == counts.source - 1, "\(fault) of the source's message \(index)")
    }
    for index in 0..<counts.destination {
      let links = try TestLinks(destination: fault.tamper(at: index))
      let move = try handOver(guest.memory, from: links.source, to: links.destination, limits: hasty)
      move.checkOneRuns(
        isLastWord: index >= counts.destination - 2, "\(fault) of the destination's message \(index)")
    }
    #expect(try SampleGuest.contents(guest.memory) == contents)
  }
}
