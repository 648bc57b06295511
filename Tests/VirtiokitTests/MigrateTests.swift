import Foundation
import GuestRAM
import LinuxIO
import Migration
import Options
import Testing

@testable import virtiokit

@Suite("virtiokit migrate: its command line") struct MigrateCommandTests {
  private func parse(_ line: String) throws(OptionError) -> MigrateCommand? {
    let words = line.split(separator: " ").map(String.init)
    guard case .run(let command) = try MigrateCommand.parse(words, program: "virtiokit migrate") else { return nil }
    return command
  }

  @Test("every example of the help is understood")
  func examples() throws {
    for example in MigrateCommand.examples { #expect(try parse(example.arguments) != nil) }
  }

  @Test(
    "what does not go together is refused",
    arguments: [
      "", "--qemu q", "--to unix:a", "--qemu q --to unix:a --receive unix:b",
      "--qemu q --receive unix:b --balloon auto",
      "--qemu q --receive unix:b --verify", "--qemu q --forecast", "--qemu q --to nowhere", "--qemu q --to file:guest",
      "--qemu q --to unix:a --pause-first --compress", "--qemu q --to unix:a --pause-first --bandwidth 1M",
      "--qemu q --to unix:a --stay-paused", "--qemu q --receive unix:a --ask", "--qemu q --to fd:0,1 --ask",
      "--qemu q --to unix:a --pause-first --ask", "--qemu q --receive unix:a --switchover-bandwidth 1G",
      "--qemu q --to unix:a --keep-available 64M", "--qemu q --receive unix:a --keep-available 64M",
      "--qemu q --to unix:a --balloon little", "--qemu q --to unix:a --timeout 0s", "--qemu q --to unix:a --report=",
    ])
  func refused(line: String) {
    #expect(throws: OptionError.self) { try parse(line) }
  }

  @Test("a forecast needs a connection, or how fast one would be")
  func forecast() throws {
    #expect(try parse("--qemu q --forecast --bandwidth 100M")?.forecasts == true)
    #expect(try parse("--qemu q --forecast --to unix:a")?.to == "unix:a")
    #expect(throws: OptionError.missingOption("--bandwidth", placeholder: "SIZE")) { try parse("--qemu q --forecast") }
  }
}

@Suite("virtiokit migrate: what goes with the memory") struct QemuStateTests {
  @Test("it is read back as it was written")
  func roundTrip() throws {
    let state = QemuState(orders: .init(), stream: FakeQemu.deviceState)
    #expect(try QemuState(decoding: state.encoded()) == state)
  }

  @Test("a part of it, and anything else, is refused")
  func damaged() throws {
    let bytes = try QemuState(orders: .init(), stream: [1, 2, 3]).encoded()
    for length in 0..<bytes.count {
      #expect(throws: (any Error).self) { try QemuState(decoding: Array(bytes.prefix(length))) }
    }
    for place in bytes.indices {
      var other = bytes
      other[place] ^= 0x10
      // The name of whoever wrote it, and its length, are nobody's business.
      if let read = try? QemuState(decoding: other) { #expect(read.stream == [1, 2, 3]) }
    }
  }
}

@Suite("virtiokit migrate: from one QEMU to another", .serialized) struct MigrateTests {
  private func command(_ line: String) throws -> MigrateCommand {
    let words = (line + " --json").split(separator: " ").map(String.init)
    guard case .run(let command) = try MigrateCommand.parse(words, program: "") else { throw CancellationError() }
    return command
  }

  private func fill(_ qemu: FakeQemu) throws -> [UInt8] {
    let file = try FileDescriptor.open(qemu.memoryPath, for: .readingAndWriting)
    let bytes = (0..<3 << 20).map { UInt8(truncatingIfNeeded: $0 / 4096 + $0) }
    try file.writeAll(bytes, at: 1 << 20)
    return bytes
  }

  private func contents(_ qemu: FakeQemu) throws -> [UInt8] {
    try FileDescriptor.open(qemu.memoryPath).readBytes(upTo: 3 << 20, at: 1 << 20)
  }

  private struct Outcome {
    let given: (any Error)?
    let taken: (any Error)?
  }

  /// Moves a guest between two threads.
  private func move(
    _ source: FakeQemu, _ destination: FakeQemu, _ options: String = "", taking: String = ""
  ) throws -> Outcome {
    let address = "unix:" + NSTemporaryDirectory() + "move-\(UUID().uuidString.prefix(8))"
    let taker = try command("--receive \(address) --qemu \(destination.server.path) \(taking)")
    let giver = try command("--to \(address) --qemu \(source.server.path) \(options)")
    let ended = try Handover<(any Error)?>()
    let calledOff = try Cancellation()
    let machine = QemuMachine(try QmpConnection(path: destination.server.path))
    let thread = try Thread(name: "taker") {
      do {
        try GuestTaker(taker, machine, calledOff).run(at: .init(address))
        ended.put(nil)
      } catch {
        ended.put(error)
      }
    }
    var failure: (any Error)?
    do {
      let machine = QemuMachine(try QmpConnection(path: source.server.path))
      let deadline = MonotonicClock.moment(after: .seconds(20))
      while !FileManager.default.fileExists(atPath: String(address.dropFirst(5))), MonotonicClock.now < deadline {}
      try GuestGiver(giver, machine, Cancellation()).run(to: .init(address))
    } catch {
      failure = error
      calledOff.cancel()
    }
    thread.join()
    return Outcome(given: failure, taken: ended.wait())
  }

  @Test("memory and devices arrive, and the guest runs there and not here", arguments: ["", "--pause-first --verify"])
  func moves(options: String) throws {
    let (source, destination) = (try FakeQemu(waits: false), try FakeQemu(waits: true))
    let bytes = try fill(source)
    let outcome = try move(source, destination, options)
    #expect(outcome.given == nil && outcome.taken == nil)
    #expect(try contents(destination) == bytes)
    #expect(try destination.takeLoaded() == FakeQemu.deviceState)
    #expect(source.state.value.status == "postmigrate" && destination.state.value.status == "running")
    // Until it has loaded its devices it must not run.
    let calls = destination.state.value.calls
    #expect(try #require(calls.firstIndex(of: "migrate-incoming")) < #require(calls.firstIndex(of: "cont")))
    #expect(!source.state.value.calls.contains("cont"))
    for qemu in [source, destination] {
      #expect(qemu.state.value.leftMemoryOut == [true] && !qemu.state.value.ignoresSharedMemory)
    }
  }

  @Test("a guest that is to stay paused arrives and does not run, there or here")
  func staysPaused() throws {
    let (source, destination) = (try FakeQemu(waits: false), try FakeQemu(waits: true))
    let bytes = try fill(source)
    let outcome = try move(source, destination, taking: "--stay-paused")
    #expect(outcome.given == nil && outcome.taken == nil)
    #expect(try contents(destination) == bytes)
    #expect(!destination.state.value.calls.contains("cont") && !source.state.value.calls.contains("cont"))
  }

  @Test("a report that cannot be written is told before the move, or does not change how it ends")
  func report() throws {
    let (source, destination) = (try FakeQemu(waits: false), try FakeQemu(waits: true))
    _ = try fill(source)
    let outcome = try move(source, destination, "--quit --report /dev/full")
    #expect(outcome.given == nil && outcome.taken == nil)
    #expect(source.state.value.calls.contains("quit"))
    let other = try FakeQemu(waits: false)
    let giver = try command("--to unix:/tmp/nobody --qemu \(other.server.path) --report /nowhere/page.html")
    let machine = QemuMachine(try QmpConnection(path: other.server.path))
    #expect(throws: LinuxError.self) {
      try GuestGiver(giver, machine, Cancellation()).run(to: .init("unix:/tmp/nobody"))
    }
    #expect(!other.state.value.calls.contains("stop"))
  }

  @Test("a guest that shrinks for the move gets its memory back there")
  func balloon() throws {
    let (source, destination) = (try FakeQemu(waits: false), try FakeQemu(waits: true))
    _ = try fill(source)
    let outcome = try move(source, destination, "--balloon 4M")
    #expect(outcome.given == nil)
    #expect(source.state.value.balloon == 4 << 20)
    #expect(destination.state.value.balloon == 8 << 20)
    // Once it runs, and not before; and it is seen to have it.
    let calls = destination.state.value.calls
    #expect(try #require(calls.firstIndex(of: "cont")) < #require(calls.firstIndex(of: "balloon")))
    #expect(calls[(calls.firstIndex(of: "balloon") ?? 0)...].contains("query-balloon"))
  }

  @Test("a guest that does not tell what it needs, or has no balloon, is moved with all that it has")
  func unshrunk() throws {
    for fault in [FakeQemu.Fault(), .hasNoBalloon] {
      let (source, destination) = (try FakeQemu(waits: false, fault), try FakeQemu(waits: true, fault))
      _ = try fill(source)
      let outcome = try move(source, destination, "--balloon auto")
      #expect(outcome.given == nil && outcome.taken == nil && !source.state.value.calls.contains("balloon"))
    }
  }

  @Test("a guest that cannot be shrunk as far as asked is moved as far as it is, and is asked for no more")
  func partlyShrunk() throws {
    let (source, destination) = (try FakeQemu(waits: false), try FakeQemu(waits: true))
    _ = try fill(source)
    source.state.with { $0.used = 5 << 20 }
    let outcome = try move(source, destination, "--balloon 4M --keep-available 1M")
    #expect(outcome.given == nil)
    #expect(source.state.value.balloonTarget == 6 << 20 && destination.state.value.balloon == 8 << 20)
  }

  @Test("a guest whose devices cannot be loaded there runs on here, with all of its memory")
  func notLoaded() throws {
    let (source, destination) = (try FakeQemu(waits: false), try FakeQemu(waits: true, .refusesState))
    _ = try fill(source)
    let outcome = try move(source, destination, "--balloon 4M")
    guard let failure = outcome.given as? MoveFailure else { throw try #require(outcome.given) }
    #expect(failure.exitStatus == 1 && failure.description.contains("runs on here and has its memory back"))
    #expect(source.state.value.status == "running" && source.state.value.balloon == 8 << 20)
    #expect(outcome.taken != nil && !destination.state.value.calls.contains("cont"))
  }

  @Test(
    "a guest that may have been announced elsewhere is announced here when it runs on, and runs on if it cannot be",
    arguments: [FakeQemu.Fault(), .cannotAnnounce])
  func announced(fault: FakeQemu.Fault) throws {
    let (source, destination) = (try FakeQemu(waits: false, fault), try FakeQemu(waits: true, .refusesState))
    _ = try fill(source)
    let outcome = try move(source, destination)
    #expect("\(try #require(outcome.given))".contains("the guest runs on here"))
    #expect(source.state.value.status == "running")
    let calls = source.state.value.calls
    #expect(try #require(calls.firstIndex(of: "cont")) < #require(calls.firstIndex(of: "announce-self")))
  }

  @Test("a guest whose devices cannot be saved runs on, and the destination waits for another")
  func notSaved() throws {
    let (source, destination) = (try FakeQemu(waits: false, .failsToSave), try FakeQemu(waits: true))
    _ = try fill(source)
    let outcome = try move(source, destination)
    #expect((outcome.given as? MoveFailure)?.exitStatus == 1)
    #expect(source.state.value.status == "running" && destination.state.value.status == "inmigrate")
    #expect(source.state.value.leftMemoryOut == [true] && !source.state.value.ignoresSharedMemory)
    #expect(!source.state.value.calls.contains("announce-self"), "nobody else can have announced it")
    // What had come of the guest is gone.
    #expect(try FileDescriptor.open(destination.memoryPath).status.allocatedByteCount == 0)
  }

  @Test("another machine is refused before the guest is touched, with both names")
  func otherMachine() throws {
    let (source, destination) = (try FakeQemu(waits: false), try FakeQemu(waits: true, machine: "pc-q35-9.0-machine"))
    _ = try fill(source)
    let outcome = try move(source, destination)
    let text = "\(try #require(outcome.given))"
    #expect(text.contains("pc-q35-7.2-machine") && text.contains("pc-q35-9.0-machine"))
    #expect(!source.state.value.calls.contains("stop"))
  }

  @Test("other devices are refused before the guest is touched, with what differs")
  func otherDevices() throws {
    let (source, destination) = (try FakeQemu(waits: false), try FakeQemu(waits: true, .hasTwoProcessors))
    _ = try fill(source)
    let outcome = try move(source, destination)
    let text = "\(try #require(outcome.given))"
    #expect(text.contains("only there processors: 1; only here processors: 2"))
    #expect(!source.state.value.calls.contains("stop"))
  }

  @Test("a guest that arrives and cannot be run has arrived")
  func notRun() throws {
    let (source, destination) = (try FakeQemu(waits: false), try FakeQemu(waits: true, .doesNotRun))
    _ = try fill(source)
    let outcome = try move(source, destination)
    #expect(outcome.given == nil)
    #expect((outcome.taken as? MoveFailure)?.exitStatus == 5)
  }

  @Test("a paused guest that comes back is told with what it takes to move it again")
  func pausedAndSaved() throws {
    let (source, destination) = (try FakeQemu(waits: false), try FakeQemu(waits: true, .refusesState))
    _ = try fill(source)
    source.state.with { $0.status = "paused" }
    let outcome = try move(source, destination)
    #expect("\(try #require(outcome.given))".contains("told cont"))
    #expect(!source.state.value.calls.contains("cont"))
  }

  @Test("other memory is refused before the guest is touched, with both sides' files")
  func otherMemory() throws {
    let (source, destination) = (try FakeQemu(waits: false), try FakeQemu(waits: true, megabytes: 16))
    _ = try fill(source)
    let text = "\(try #require(try move(source, destination).given))"
    #expect(text.contains("ram of 8388608 bytes") && text.contains("ram of 16777216 bytes"))
    #expect(!source.state.value.calls.contains("stop"))
  }

  @Test("files lie in the order of their ids, in whichever order QEMU tells them")
  func memoryOrder() throws {
    let server = try ScriptedQmp { (request) in
      switch (request.command, request.arguments["property"]?.text) {
      case ("query-memdev", _):
        let backends = ["ram1", "ram2", "ram0"].map { (id) in
          JSON.object([("id", .text(id)), ("size", .number(4096)), ("share", .bool(true))])
        }
        return [request.answer(.array(backends))]
      case (_, "type"): return [request.answer(.text("memory-backend-file"))]
      default: return [request.answer(.text("/dev/shm/file"))]
      }
    }
    let memory = try QemuMemory(of: QemuMachine(try QmpConnection(path: server.path)))
    #expect(memory.layout == "ram0 of 4096 bytes, ram1 of 4096 bytes, ram2 of 4096 bytes")
  }

  @Test(
    "memory that cannot be opened is told with what to start QEMU with",
    arguments: [FakeQemu.Fault.isNotShared, .isNoFile])
  func memory(fault: FakeQemu.Fault) throws {
    let source = try FakeQemu(waits: false, fault)
    let giver = try command("--to unix:/tmp/nobody --qemu \(source.server.path)")
    let machine = QemuMachine(try QmpConnection(path: source.server.path))
    let error = #expect(throws: (any Error).self) {
      try GuestGiver(giver, machine, Cancellation()).run(to: .init("unix:/tmp/nobody"))
    }
    #expect("\(try #require(error))".contains("memory-backend-file"))
  }

  @Test("a QEMU that does not wait takes no guest, and one that waits gives none")
  func wrongWay() throws {
    let (running, waiting) = (try FakeQemu(waits: false), try FakeQemu(waits: true))
    let taker = try command("--receive unix:/tmp/nobody --qemu \(running.server.path)")
    let machine = QemuMachine(try QmpConnection(path: running.server.path))
    #expect(throws: MoveFailure.self) {
      try GuestTaker(taker, machine, Cancellation()).run(at: .init("unix:/tmp/nobody"))
    }
    let left = try FakeQemu(waits: false)
    left.state.with { $0.status = "paused" }
    let again = try command("--receive unix:/tmp/nobody --qemu \(left.server.path)")
    let leftMachine = QemuMachine(try QmpConnection(path: left.server.path))
    let error = #expect(throws: MoveFailure.self) {
      try GuestTaker(again, leftMachine, Cancellation()).run(at: .init("unix:/tmp/nobody"))
    }
    #expect(try #require(error).description.contains("a guest is in it already"))
    let giver = try command("--to unix:/tmp/nobody --qemu \(waiting.server.path)")
    let other = QemuMachine(try QmpConnection(path: waiting.server.path))
    #expect(throws: MoveFailure.self) {
      try GuestGiver(giver, other, Cancellation()).run(to: .init("unix:/tmp/nobody"))
    }
  }
}
