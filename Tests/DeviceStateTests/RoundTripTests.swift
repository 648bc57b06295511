import DeviceState
import Testing

@Suite("DeviceState: round trips")
struct RoundTripTests {
  @Test("every kind of value comes back as it was", arguments: [EveryKindState(), .full])
  func everyKind(state: EveryKindState) throws {
    #expect(try EveryKindState(decoding: state.encoded()) == state)
  }

  @Test("a snapshot comes back with its producer, its sections and their order")
  func snapshot() throws {
    var snapshot = Snapshot(producer: "tests", producerVersion: "1.2")
    try snapshot.add(LampState.second, instance: "b")
    try snapshot.add(EveryKindState.full, optional: true)
    try snapshot.add(LampState.first, instance: "a")
    let decoded = try Snapshot(decoding: snapshot.encoded())
    #expect(decoded == snapshot)
    #expect(decoded.sections.map(\.label) == ["lamp/b", "every kind", "lamp/a"])
    #expect(try decoded.read(LampState.self, instance: "a") == .first)
    #expect(try decoded.read(LampState.self, instance: "b") == .second)
    #expect(try decoded.read(EveryKindState.self) == .full)
  }

  @Test("an empty snapshot is one")
  func empty() throws {
    #expect(try Snapshot(decoding: Snapshot().encoded()).sections.isEmpty)
  }
}
