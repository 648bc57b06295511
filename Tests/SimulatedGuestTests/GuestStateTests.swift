import DeviceState
import Foundation
import SimulatedGuest
import Testing

@Suite("Guest: state") struct GuestStateTests {
  @Test("the schema of version 1 is what it was")
  func schema() throws {
    #expect(
      try Schema.text(of: GuestState.self) == """
        guest version 1
          bootBlock: u64
          random: u64
          tick: u64
          workload: string
          pagesPerStep: u32
          position: u64
          pendingQueues: u64
          pendingConfiguration: bool

        """)
    #expect(try Schema(of: GuestState.self).violations.isEmpty)
  }

  /// A state with another value in every field.
  private static var sample: GuestState {
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

  @Test("version 1 is written and read as it was")
  func golden() throws {
    let url = try #require(Bundle.module.url(forResource: "guest-v1", withExtension: "hex", subdirectory: "Fixtures"))
    let digits = try String(contentsOf: url, encoding: .utf8).filter { (digit: Character) in !digit.isWhitespace }
    let written = try Self.sample.encoded().map { String(format: "%02x", $0) }.joined()
    #expect(written == digits, "written now: \(written)")
    let bytes = stride(from: 0, to: digits.count, by: 2).compactMap { offset in
      UInt8(digits.dropFirst(offset).prefix(2), radix: 16)
    }
    #expect(try GuestState(decoding: bytes, version: 1) == Self.sample)
  }
}
