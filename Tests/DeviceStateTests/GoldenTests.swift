import DeviceState
import Testing

@Suite("DeviceState: golden bytes")
struct GoldenTests {
  static func snapshot(_ state: LampState, version: Int) throws -> [UInt8] {
    var snapshot = Snapshot(producer: "VirtioKit", producerVersion: "1.0")
    try snapshot.add(state, instance: "0", version: version)
    return snapshot.encoded()
  }

  @Test("every released version is written as it was", arguments: [(1, LampState.first), (2, LampState.second)])
  func written(version: Int, state: LampState) throws {
    let golden = Wire.parse(hex: try Wire.fixture("lamp-v\(version).hex"))
    let bytes = try Self.snapshot(state, version: version)
    #expect(bytes == golden, "written now: \(Wire.hex(bytes))")
  }

  @Test("every released version is read as it was", arguments: [(1, LampState.first), (2, LampState.second)])
  func read(version: Int, state: LampState) throws {
    let snapshot = try Snapshot(decoding: Wire.parse(hex: Wire.fixture("lamp-v\(version).hex")))
    #expect(snapshot.sections.map(\.version) == [version])
    #expect(try snapshot.read(LampState.self, instance: "0") == state)
  }

  @Test("the example in docs/state-format.md is the golden snapshot of version 2")
  func document() throws {
    let document = try Wire.document("state-format.md")
    let example = try #require(document.components(after: "```hex\n", before: "```").first)
    let bytes = example.split(separator: "\n").flatMap { Wire.parse(hex: $0.prefix { $0 != "|" }) }
    let golden = try Self.snapshot(.second, version: 2)
    #expect(bytes == golden, "the example is now: \(Wire.hex(golden))")
    let description = try Snapshot(decoding: golden).describe()
    #expect(document.contains(description), "the description is now:\n\(description)")
    let schema = try Schema.text(of: LampState.self)
    #expect(document.contains(schema), "the schema is now:\n\(schema)")
  }

  @Test("RFC 3720, B.4: the checksum is CRC-32C")
  func checksum() throws {
    #expect(Wire.crc32c("123456789".utf8) == 0xE306_9283)
    #expect(Wire.crc32c([UInt8](repeating: 0, count: 32)) == 0x8A91_36AA)
    #expect(Wire.crc32c([UInt8](repeating: 0xFF, count: 32)) == 0x62A8_AB43)
    let bytes = try Self.snapshot(.second, version: 2)
    #expect(Wire.sealed(Array(bytes.dropLast(4))) == bytes)
  }

  @Test("a device of 60 fields takes less than 2 KiB")
  func size() throws {
    let fields = (0..<60).map {
      StateTree.Field(name: "statisticsOfKind\($0)", type: .u64, value: .unsigned(.max))
    }
    #expect(try StateTree.record(fields).payload().count < 2048)
  }
}

extension String {
  func components(after start: String, before end: String) -> [Substring] {
    split(separator: start, omittingEmptySubsequences: false).dropFirst().compactMap { $0.split(separator: end).first }
  }
}
