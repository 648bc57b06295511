import DeviceState
import Foundation
import SimulatedGuest
import Testing

@Suite("Guest: state") struct GuestStateTests {
  @Test("the schema of version 2 is what it was")
  func schema() throws {
    #expect(
      try Schema.text(of: GuestState.self) == """
        guest version 2
          bootBlock: u64
          random: u64
          tick: u64
          workload: string
          pagesPerStep: u32
          position: u64
          pendingQueues: u64
          pendingConfiguration: bool
          pendingBlockQueues: u64, since 2, else 0
          pendingBlockConfiguration: bool, since 2, else false
          pendingNetQueues: u64, since 2, else 0
          pendingNetConfiguration: bool, since 2, else false

        """)
    #expect(try Schema(of: GuestState.self).violations.isEmpty)
  }

  /// A state with another value in every field that version 1 has.
  private static var first: GuestState {
    var state = GuestState()
    state.bootBlock = 0x1000
    state.random = 0x0123_4567_89AB_CDEF
    state.tick = 5
    state.workload = .pageCache
    state.pagesPerStep = 64
    state.position = 7
    state.pendingQueues = 0x1F
    state.pendingConfiguration = true
    return state
  }

  /// A state with another value in every field.
  private static var sample: GuestState {
    var state = first
    state.pendingBlockQueues = 1
    state.pendingBlockConfiguration = true
    state.pendingNetQueues = 3
    state.pendingNetConfiguration = true
    return state
  }

  private static func fixture(_ name: String) throws -> [UInt8] {
    let url = try #require(Bundle.module.url(forResource: name, withExtension: "hex", subdirectory: "Fixtures"))
    let digits = try String(contentsOf: url, encoding: .utf8).filter { (digit: Character) in !digit.isWhitespace }
    return stride(from: 0, to: digits.count, by: 2).compactMap { offset in
      UInt8(digits.dropFirst(offset).prefix(2), radix: 16)
    }
  }

  @Test("version 1 is read as it was")
  func golden() throws {
    #expect(try GuestState(decoding: Self.fixture("guest-v1"), version: 1) == Self.first)
  }

  @Test("version 2 is written and read as it was")
  func golden2() throws {
    let golden = try Self.fixture("guest-v2")
    let written = try Self.sample.encoded()
    let text = written.map { String(format: "%02x", $0) }.joined()
    #expect(written == golden, "written now: \(text)")
    #expect(try GuestState(decoding: golden, version: 2) == Self.sample)
  }
}
