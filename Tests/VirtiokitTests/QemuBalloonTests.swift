import LinuxIO
import Options
import Testing

@testable import virtiokit

@Suite("virtiokit migrate: a guest that shrinks") struct QemuBalloonTests {
  private static func mebibytes(_ count: UInt64) -> UInt64 { count << 20 }

  private func balloon(_ qemu: FakeQemu) throws -> QemuBalloon {
    QemuBalloon(machine: QemuMachine(try QmpConnection(path: qemu.server.path)), patience: .milliseconds(200))
  }

  private func shrink(
    _ balloon: QemuBalloon, to wish: SizeOrAuto, keeping floor: UInt64? = nil
  ) throws -> QemuBalloon.Shrinking? {
    try balloon.shrink(to: wish, keeping: floor, unless: Cancellation())
  }

  @Test("a guest that gives what it is asked for has been shrunk, and is watched on the way")
  func complete() throws {
    let qemu = try FakeQemu(waits: false)
    var seen: [UInt64] = []
    let shrinking = try balloon(qemu).shrink(to: .size(.mebibytes(4)), unless: Cancellation()) { (now, asked) in
      #expect(asked == Self.mebibytes(4))
      seen.append(now)
    }
    let size = Self.mebibytes(4)
    #expect(shrinking == .init(asked: size, after: size, isComplete: true, reason: "the target was reached"))
    #expect(seen.first == Self.mebibytes(8) && seen.last == size)
  }

  @Test("a guest is never asked to have more than it has, nor for parts of pages", arguments: [8, 9, 100])
  func nothingToDo(mebibytes: UInt64) throws {
    let qemu = try FakeQemu(waits: false)
    // QEMU has one client at a time.
    let balloon = try balloon(qemu)
    let shrinking = try shrink(balloon, to: .size(.mebibytes(mebibytes)))
    #expect(shrinking?.after == Self.mebibytes(8) && shrinking?.isComplete == true)
    let odd = try #require(try shrink(balloon, to: .size(ByteCount(bytes: 5_000_001))))
    #expect(odd.isComplete && odd.after >= 5_000_001 && odd.after < 5_000_001 + 4096)
  }

  @Test("one that gives only a part is left with that part, and is not asked for more while it is moved")
  func partial() throws {
    let qemu = try FakeQemu(waits: false)
    qemu.state.with { $0.leastBalloon = Self.mebibytes(6) }
    let shrinking = try shrink(balloon(qemu), to: .size(.mebibytes(4)))
    #expect(
      shrinking
        == .init(
          asked: Self.mebibytes(4), after: Self.mebibytes(6), isComplete: false, reason: "the guest gave no more pages")
    )
    #expect(qemu.state.value.balloonTarget == Self.mebibytes(6))
  }

  @Test("what it needs by its own statistics stays, and some more, or as much more as is said")
  func byStatistics() throws {
    let qemu = try FakeQemu(waits: false, megabytes: 512)
    let balloon = try balloon(qemu)
    #expect(try shrink(balloon, to: .auto) == nil)
    #expect(!qemu.state.value.calls.contains("balloon") && qemu.state.value.statisticsInterval == 0)
    qemu.state.with { $0.used = Self.mebibytes(8) }
    #expect(try shrink(balloon, to: .auto)?.after == Self.mebibytes(8 + 48))
    let other = try FakeQemu(waits: false, megabytes: 512)
    other.state.with { ($0.used, $0.statisticsInterval) = (Self.mebibytes(8), 7) }
    let shrinking = try #require(try shrink(self.balloon(other), to: .auto, keeping: Self.mebibytes(100)))
    #expect(shrinking.after == Self.mebibytes(8 + 100) && shrinking.isComplete)
    #expect(other.state.value.statisticsInterval == 7, "QEMU asks the guest as often as it did before")
    // No more than 128 MiB at a time, each judged by what the guest says after it.
    #expect(other.state.value.calls.count(where: { $0 == "balloon" }) >= 4)
  }

  @Test("with a floor a size is not reached that leaves less available; without, or with nobody to tell, it is")
  func floor() throws {
    let qemu = try FakeQemu(waits: false, megabytes: 256)
    qemu.state.with { $0.used = Self.mebibytes(60) }
    let balloon = try balloon(qemu)
    let kept = try #require(try shrink(balloon, to: .size(.mebibytes(64)), keeping: Self.mebibytes(40)))
    #expect(!kept.isComplete && kept.after == Self.mebibytes(100))
    #expect(kept.reason == "the guest has only 40 MiB available")
    #expect(qemu.state.value.balloonTarget == Self.mebibytes(100))
    #expect(try shrink(balloon, to: .size(.mebibytes(64)))?.isComplete == true)
    let silent = try FakeQemu(waits: false, megabytes: 256)
    let blind = try #require(try shrink(self.balloon(silent), to: .size(.mebibytes(64)), keeping: Self.mebibytes(40)))
    #expect(blind.isComplete && blind.reason == "the target was reached, and it does not tell what it has available")
  }

  @Test("a guest that is hurt gets back what hurt it", arguments: [FakeQemu.Fault(), .killsPrograms])
  func hurt(fault: FakeQemu.Fault) throws {
    let qemu = try FakeQemu(waits: false, megabytes: 256, fault)
    qemu.state.with { ($0.leastBalloon, $0.hurtBelow) = (Self.mebibytes(100), Self.mebibytes(200)) }
    let shrinking = try #require(try shrink(balloon(qemu), to: .size(.mebibytes(64))))
    #expect(!shrinking.isComplete && shrinking.after == Self.mebibytes(256))
    let reason = fault.isEmpty ? "swapped out 64 MiB" : "killed 1 programs"
    #expect(shrinking.reason.contains(reason))
    #expect(qemu.state.value.balloonTarget == Self.mebibytes(256))
  }

  @Test("growing back is waited for as long as it gets anywhere")
  func growing() throws {
    let qemu = try FakeQemu(waits: false)
    qemu.state.with { $0.balloon = Self.mebibytes(4) }
    #expect(try balloon(qemu).change(to: Self.mebibytes(8)) == Self.mebibytes(8))
    let server = try ScriptedQmp { (request) in
      [request.answer(request.command == "query-balloon" ? .object([("actual", .number(Self.mebibytes(6)))]) : .null)]
    }
    let machine = QemuMachine(try QmpConnection(path: server.path))
    let balloon = QemuBalloon(machine: machine, patience: .milliseconds(50))
    #expect(try balloon.change(to: Self.mebibytes(8)) == Self.mebibytes(6))
  }

  @Test("it can be called off at any moment")
  func calledOff() throws {
    let qemu = try FakeQemu(waits: false)
    qemu.state.with { $0.leastBalloon = Self.mebibytes(6) }
    let cancellation = try Cancellation()
    let balloon = QemuBalloon(machine: try balloon(qemu).machine, patience: .seconds(600))
    #expect(throws: LinuxError.self) {
      try balloon.shrink(to: .size(.mebibytes(4)), unless: cancellation) { (_, _) in cancellation.cancel() }
    }
  }
}
