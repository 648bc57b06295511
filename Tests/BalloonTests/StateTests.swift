import Balloon
import DeviceState
import Foundation
import GuestRAM
import Support
import Testing
import VirtioCore
import Virtqueue

@Suite("Balloon: state") struct StateTests {
  private typealias Guest = BalloonGuest<Recorder>

  @Test("the schema of version 1 is what it was")
  func schema() throws {
    #expect(
      try Schema.text(of: BalloonState.self) == """
        balloon version 1
          numbering: u8
          targetPages: u32
          actualPages: u32
          poisonValue: u32
          hintCommand: u32
          hintPhase: u8
          lastHintRound: u32
          statisticsHeld: bool
          statisticsRequested: bool
          pollInterval: u64?
          lastReportAge: u64?
          statistics: [record]
            tag: u16
            value: u64
            age: u64
          counters: record
            inflatedPages: u64
            deflatedPages: u64
            reclaimedBytes: u64
            reportedBytes: u64
            ignoredBytes: u64
            failedDiscards: u64

        """)
    #expect(try Schema(of: BalloonState.self).violations.isEmpty)
  }

  /// A state with another value in every field.
  private static var sample: BalloonState {
    var state = BalloonState()
    state.numbering = .fixed
    state.targetPages = 0x0102_0304
    state.actualPages = 0x0506_0708
    state.poisonValue = 0xAAAA_AAAA
    state.hintCommand = 0x8000_0003
    state.hintPhase = .active
    state.lastHintRound = 0x8000_0003
    state.statisticsHeld = true
    state.statisticsRequested = true
    state.pollInterval = 2_000_000_000
    state.lastReportAge = 5
    state.statistics = [SavedStatistic(), SavedStatistic()]
    state.statistics[0].tag = .freeMemory
    state.statistics[0].value = 1 << 30
    state.statistics[0].age = 5
    state.statistics[1].tag = .directReclaim
    state.statistics[1].value = .max
    state.statistics[1].age = 7
    state.counters.inflatedPages = 11
    state.counters.deflatedPages = 12
    state.counters.reclaimedBytes = 13
    state.counters.reportedBytes = 14
    state.counters.ignoredBytes = 15
    state.counters.failedDiscards = 16
    return state
  }

  @Test("version 1 is written and read as it was")
  func golden() throws {
    let url = try #require(Bundle.module.url(forResource: "balloon-v1", withExtension: "hex", subdirectory: "Fixtures"))
    let digits = try String(contentsOf: url, encoding: .utf8).filter { (digit: Character) in !digit.isWhitespace }
    let written = try Self.sample.encoded().map { String(format: "%02x", $0) }.joined()
    #expect(written == digits, "written now: \(written)")
    let bytes = stride(from: 0, to: digits.count, by: 2).compactMap { offset in
      UInt8(digits.dropFirst(offset).prefix(2), radix: 16)
    }
    #expect(try BalloonState(decoding: bytes, version: 1) == Self.sample)
  }

  @Test("a device gives back the state that it adopted, in every field")
  func identity() throws {
    let guest = try Guest(reclaimer: Recorder())
    try guest.host.update { (device) throws(StateError) in try device.adopt(Self.sample) }
    #expect(guest.host.device.state == Self.sample)
  }

  @Test("the numbering travels: a guest goes on with the one it began with, and boots with it again")
  func numbering() throws {
    var options = BalloonOptions()
    options.numbering = .fixed
    let guest = try Guest(reclaimer: Recorder(), options: options, accepting: Bit.all & ~Bit.statistics)
    try guest.move(to: Recorder())
    try guest.send([.writable(0x40_0000, 0x1000)], to: 4)
    #expect(guest.host.device.reclaimer.events.last == .released(pages(1024)))
    guest.host.reset()
    #expect(guest.host.device.queueRoles.numbering == .fixed)
  }

  /// The field that a device refuses a state for; nil when it takes it.
  private func refusal(_ state: BalloonState, _ guest: Guest) -> String? {
    do throws(StateError) {
      try guest.host.update { (device) throws(StateError) in try device.adopt(state) }
    } catch {
      guard case .invalidValue(let section, let field, _) = error, section == "balloon" else { return "\(error)" }
      return field
    }
    return nil
  }

  @Test("a state that no device can be in is refused by the field's name, and changes nothing")
  func damaged() throws {
    let damages: [(String, (inout BalloonState) -> Void)] = [
      ("hintPhase", { $0.hintPhase = .idle }),
      ("hintPhase", { $0.hintCommand = 0 }),
      ("hintPhase", { $0.hintCommand = 1 }),
      ("lastHintRound", { $0.lastHintRound = 0x8000_0002 }),
      ("lastReportAge", { $0.lastReportAge = nil }),
      ("pollInterval", { $0.pollInterval = 0 }),
      ("statistics", { $0.statistics[1].tag = .freeMemory }),
    ]
    let guest = try Guest(reclaimer: Recorder())
    let before = guest.host.device.state
    for (field, damage) in damages {
      var state = Self.sample
      damage(&state)
      #expect(refusal(state, guest) == field)
    }
    #expect(guest.host.device.state == before)
    #expect(refusal(Self.sample, guest) == nil)
  }

  @Test(
    "a state with a queue that was not negotiated is refused",
    arguments: [("statisticsHeld", Bit.statistics), ("hintPhase", Bit.hint)])
  func missingQueue(field: String, feature: UInt64) throws {
    let guest = try Guest(reclaimer: Recorder(), accepting: Bit.all & ~feature)
    #expect(refusal(Self.sample, guest) == field)
  }

  @Test("values at their limits, from a file that means ill, trap nowhere")
  func limits() throws {
    let guest = try Guest(reclaimer: Recorder())
    var state = Self.sample
    state.targetPages = .max
    state.actualPages = .max
    state.hintCommand = .max
    state.lastHintRound = .max
    state.pollInterval = .max
    state.lastReportAge = .max
    state.statistics[0].age = .max
    let most = UInt64.max
    state.counters.inflatedPages = most
    state.counters.deflatedPages = 0
    state.counters.reclaimedBytes = most
    state.counters.reportedBytes = most
    state.counters.ignoredBytes = most
    state.counters.failedDiscards = most
    try guest.host.update { (device) throws(StateError) in try device.adopt(state) }
    try guest.send(frames: [1000, 9000], to: 0)
    try guest.send(frames: [1000], to: 1)
    try guest.send([.writable(0x40_0000, 0x1000)], to: 4)
    guest.host.wake()
    #expect(guest.host.device.reading(of: .freeMemory, freshFor: 10) == .stale(1 << 30, age: .max))
    let moment = guest.host.device.moment(residentByteCount: 0)
    let report = guest.host.device.report(guestByteCount: 32 << 20, residentByteCount: 0, since: moment)
    #expect(report.targetByteCount == 0)
    #expect(guest.host.failure == nil)
    let round = try guest.host.update { (device) throws(BalloonError) in try device.startHinting() }
    #expect(round == 0x8000_0000)
  }

  private static func takeStatisticsBuffer(_ guest: Guest) throws {
    let used = try guest.rings[Guest.statistics]?.takeUsed()
    #expect(used?.byteCount == 0)
  }

  /// What a driver and an operator do, one thing after the other.
  private static var story: [(Guest) throws -> Void] {
    [
      { guest in guest.host.update { $0.setTarget(BalloonTarget(pageCount: 512)) } },
      { try $0.send(statistics: [(4, 1), (5, 2)]) },
      { try $0.send(frames: Array(1024..<1280), to: 0) },
      { try $0.host.writeConfig([0, 1, 0, 0], at: 4) },
      { guest in guest.host.update { $0.requestStatistics() } },
      { $0.host.wake() },
      { try takeStatisticsBuffer($0) },
      { try $0.send(statistics: [(4, 3)]) },
      { guest in try guest.host.update { (device) throws(BalloonError) in _ = try device.startHinting() } },
      { try $0.send(bytes: Guest.bytes($0.config(at: 8)), to: Guest.hinting) },
      { try $0.send([.writable(0x80_0000, 0x40_0000)], to: Guest.hinting) },
      { try $0.send(bytes: Guest.bytes(UInt32(0)), to: Guest.hinting) },
      { guest in guest.host.update { $0.finishHinting() } },
      { try $0.send([.writable(0x60_0000, 0x1000)], to: Guest.reporting) },
      { guest in guest.host.update { $0.pollStatistics(every: 1_000_000_000) } },
      { $0.clock.now += 1_000_000_000 },
      { $0.host.wake() },
      { try takeStatisticsBuffer($0) },
      { try $0.send(statistics: [(15, 9)]) },
      { try $0.send(frames: [1024, 1025], to: 1) },
    ]
  }

  @Test("a device that moves at any moment ends as one that stayed", arguments: 0...20)
  func everyMoment(moment: Int) throws {
    let stayed = try Guest(reclaimer: Recorder())
    for step in Self.story { try step(stayed) }
    let moved = try Guest(reclaimer: Recorder())
    var events: [Recorder.Event] = []
    for (index, step) in Self.story.enumerated() {
      if index == moment { try Self.move(moved, &events) }
      try step(moved)
    }
    if moment == Self.story.count { try Self.move(moved, &events) }
    events += moved.host.device.reclaimer.events
    #expect(moved.host.device.state == stayed.host.device.state)
    #expect(events.filter { $0 != .reset } == stayed.host.device.reclaimer.events)
    #expect(moved.host.failure == nil)
    #expect(Self.story.count == 20)
  }

  private static func move(_ guest: Guest, _ events: inout [Recorder.Event]) throws {
    events += guest.host.device.reclaimer.events
    let before = guest.host.device.state
    // A clock that starts anew, as another machine's does.
    try guest.move(to: Recorder(), after: 77 &- guest.clock.now)
    #expect(guest.host.device.state == before)
  }

  @Test("a device that was saved and goes on where it was lost nothing")
  func saveAndStay() throws {
    let guest = try Guest(reclaimer: Recorder())
    try guest.send(statistics: [(4, 1)])
    let first = try guest.save()
    #expect(try guest.save() == first)
    guest.host.resume()
    guest.host.update { $0.requestStatistics() }
    guest.host.wake()
    #expect(try guest.rings[Guest.statistics]?.takeUsed() != nil)
  }

  @Test("a state that says a buffer is held where the ring has none is no trap")
  func nothingHeld() throws {
    let guest = try Guest(reclaimer: Recorder())
    var state = BalloonState()
    state.statisticsHeld = true
    state.lastReportAge = 0
    state.statisticsRequested = true
    try guest.host.update { (device) throws(StateError) in try device.adopt(state) }
    guest.host.wake()
    #expect(guest.host.failure == nil)
    try guest.send(statistics: [(4, 1)])
    #expect(guest.host.device.reading(of: .freeMemory) == .fresh(1, age: 0))
  }
}
