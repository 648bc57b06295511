import GuestRAM
import Support
import Testing

@testable import Migration

/// Two passes over what a guest has written follow the first: one with new data, one with zeros and a page given back.
@Suite("Migration: faults while a guest runs") struct LiveFaultTests {
  private static let (written, zeroed, given) = (pages(0x40000 + 100, 60), pages(40, 8), pages(0x40000 + 200, 16))

  private func policy(compresses: Bool) -> MigrationPolicy {
    MigrationPolicy(downtimeLimit: .zero, compresses: compresses, verifies: true)
  }

  /// Short, as some faults leave both sides waiting.
  private let limits = DestinationLimits(mostMemory: 16 << 20, time: .milliseconds(150))
  private let sample: SampleGuest

  init() throws {
    sample = try SampleGuest()
  }

  /// The same guest for each move, with the same memory to begin with.
  private func guest() throws -> ScriptedGuest {
    for range in [Self.written, Self.zeroed, Self.given] {
      try ScriptedGuest.Act.fill(range, with: 7).body(sample.memory)
    }
    let last = ScriptedGuest.Act(ranges: [Self.zeroed, Self.given]) { (memory) in
      try ScriptedGuest.Act.fill(Self.zeroed, with: 0).body(memory)
      try memory.discard(Self.given)
    }
    return ScriptedGuest(sample, [.fill(Self.written, with: 1), last])
  }

  private func messageCounts(compresses: Bool) throws -> (source: Int, destination: Int) {
    let links = try TestLinks()
    let move = try moveLive(guest(), over: links, policy: policy(compresses: compresses))
    #expect(move.source.value?.passCount == 3)
    return (links.source.messageCount, links.destination.messageCount)
  }

  @Test(
    "whatever happens to a message of the source, one side has the guest", arguments: Fault.allCases, [false, true])
  func sourceMessages(fault: Fault, compresses: Bool) throws {
    let count = try messageCounts(compresses: compresses).source
    for index in fault.places(among: count) {
      let links = try TestLinks(source: fault.tamper(at: index))
      let move = try moveLive(guest(), over: links, policy: policy(compresses: compresses), limits: limits)
      let isCommit = index == count - 1
      try check(move, isLastWord: isCommit, "\(fault) of the source's message \(index)")
      // With these two the source may have sent the commit before it meets the fault of the message before.
      let mayMeetCommit = index == count - 2 && [.cutAfter, .repeated].contains(fault)
      if !isCommit && !mayMeetCommit { #expect(move.source.error?.sourceMayRun == true) }
    }
  }

  @Test(
    "whatever happens to a message of the destination, one side has the guest", arguments: Fault.allCases,
    [false, true])
  func destinationMessages(fault: Fault, compresses: Bool) throws {
    let count = try messageCounts(compresses: compresses).destination
    for index in fault.places(among: count) {
      let links = try TestLinks(destination: fault.tamper(at: index))
      let move = try moveLive(guest(), over: links, policy: policy(compresses: compresses), limits: limits)
      try check(move, isLastWord: index >= count - 2, "\(fault) of the destination's message \(index)")
    }
  }

  private func check(_ move: LiveMove, isLastWord: Bool, _ what: Comment) throws {
    Move(source: move.source, destination: move.destination).checkOneRuns(isLastWord: isLastWord, "\(what)")
    let calls = move.guest.calls
    func count(_ call: ScriptedGuest.Call) -> Int { calls.filter { $0 == call }.count }
    #expect(count(.end) == 1, what)
    if let error = move.source.error, error.sourceMayRun {
      #expect(count(.resume) == count(.pause), what)
      #expect(calls.last { $0 != .end } == .slowDown(1), what)
    } else {
      #expect(count(.pause) == 1 && count(.resume) == 0, what)
    }
    // Whoever runs the guest has all of it.
    guard let arrived = move.destination.value?.guest else { return }
    for range in SampleGuest.regions {
      let expected = try sample.memory.readBytes(Int(range.byteCount), at: range.start)
      #expect(try arrived.memory.readBytes(Int(range.byteCount), at: range.start) == expected, what)
    }
    #expect(arrived.state == sample.state, what)
  }
}
