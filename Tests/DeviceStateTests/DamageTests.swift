import DeviceState
import Testing

@Suite("DeviceState: damage")
struct DamageTests {
  @Test("a snapshot cut at any byte is an error")
  func truncation() throws {
    let bytes = try GoldenTests.snapshot(.second, version: 2)
    for count in 0..<bytes.count {
      #expect(throws: StateError.self, "cut at \(count)") { try Snapshot(decoding: Array(bytes[..<count])) }
    }
  }

  @Test("a snapshot with any bit flipped is an error")
  func flips() throws {
    let bytes = try GoldenTests.snapshot(.second, version: 2)
    for bit in 0..<bytes.count * 8 {
      var flipped = bytes
      flipped[bit / 8] ^= 1 << (bit % 8)
      #expect(throws: StateError.self, "bit \(bit)") { try Snapshot(decoding: flipped) }
    }
  }

  @Test("a snapshot with any bit flipped and its checksums made right is an error or a state that is written the same")
  func forgedFlips() throws {
    let bytes = try GoldenTests.snapshot(.second, version: 2)
    var accepted = 0
    for bit in 0..<(bytes.count - 4) * 8 {
      var flipped = bytes
      flipped[bit / 8] ^= 1 << (bit % 8)
      if try holds(Wire.resealed(flipped)) { accepted += 1 }
    }
    #expect(accepted > 0, "values of fields may change, so some must have been read")
  }

  @Test("a payload cut at any byte is an error")
  func payloadTruncation() throws {
    let payload = try EveryKindState.full.encoded()
    for count in 0..<payload.count {
      #expect(throws: StateError.self, "cut at \(count)") { try EveryKindState(decoding: Array(payload[..<count])) }
    }
  }

  @Test("a payload changed at random is an error or a state that is written the same")
  func randomChanges() throws {
    var generator = SeededGenerator()
    let seed = generator.seed
    let payload = try EveryKindState.full.encoded()
    for round in 0..<4000 {
      var changed = payload
      for _ in 0..<Int.random(in: 1...4, using: &generator) {
        let index = Int.random(in: 0..<changed.count, using: &generator)
        switch Int.random(in: 0..<4, using: &generator) {
        case 0: changed[index] = .random(in: .min ... .max, using: &generator)
        case 1: changed.insert(.random(in: 0...12, using: &generator), at: index)
        case 2: changed.remove(at: index)
        default: changed.replaceSubrange(index..<min(index + 4, changed.count), with: Wire.u32(.max))
        }
      }
      try #expect(sameWhenWritten(changed), "VIRTIOKIT_SEED=\(seed), round \(round): \(Wire.hex(changed))")
    }
  }

  /// Whether the snapshot is read at all; if so, it must be written as it was.
  private func holds(_ bytes: [UInt8]) throws -> Bool {
    guard let snapshot = try? Snapshot(decoding: bytes) else { return false }
    #expect(snapshot.encoded() == bytes)
    #expect(!snapshot.describe().isEmpty)
    for section in snapshot.sections {
      if let tree = try? StateTree(decoding: section.payload) { #expect(try tree.payload() == section.payload) }
    }
    guard let section = snapshot.sections.first,
      let state = try? snapshot.read(LampState.self, instance: section.instance)
    else { return false }
    #expect(try state.encoded(as: section.version) == section.payload)
    return true
  }

  /// Whether the bytes are refused, or are the only way to write what was read from them.
  private func sameWhenWritten(_ payload: [UInt8]) throws -> Bool {
    if let tree = try? StateTree(decoding: payload), try tree.payload() != payload { return false }
    guard let state = try? EveryKindState(decoding: payload) else { return true }
    return try state.encoded() == payload
  }
}
