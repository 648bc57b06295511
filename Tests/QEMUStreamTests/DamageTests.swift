import QEMUStream
import Support
import Testing

/// QEMU's streams have no checksum: of a byte that is another value nobody can tell in general. That there is one more or one
/// fewer shows, and whatever shows has its name and place.
@Suite("Damaged streams") struct DamageTests {
  private func isPlaced(_ error: QEMUStreamError) -> Bool {
    switch error {
    case .notAStream, .missingPages, .missing, .cannotCarry, .unknownMachine: true
    default: error.description.contains("byte ")
    }
  }

  /// Reads what may be damaged; fails on an error that does not say where.
  private func outcome(_ bytes: [UInt8], _ what: String) -> QEMUStreamError? {
    do throws(QEMUStreamError) {
      let whole = try QEMUStream.readWithMemory(bytes)
      _ = try? whole.stream.importState(memory: whole.memory)
      return nil
    } catch {
      #expect(isPlaced(error), "\(what): \(error)")
      return error
    }
  }

  @Test("The small stream is whole as it is")
  func whole() throws {
    #expect(outcome(SyntheticStream.small.bytes, "whole") == nil)
  }

  @Test("Every bit flipped: read all the same, or an error that says where")
  func flips() {
    let bytes = SyntheticStream.small.bytes
    for place in bytes.indices {
      for bit in 0..<8 {
        var damaged = bytes
        damaged[place] ^= 1 << bit
        _ = outcome(damaged, "bit \(bit) of byte \(place)")
      }
    }
  }

  @Test("Cut off anywhere: an error")
  func cuts() {
    let bytes = SyntheticStream.small.bytes
    // What comes before the description is a stream without one.
    let undescribed = bytes.count - description(bytes)
    for length in bytes.indices where length != undescribed {
      #expect(outcome(Array(bytes.prefix(length)), "cut at \(length)") != nil, "cut at \(length)")
    }
  }

  @Test("A byte more, a byte fewer, anywhere: an error")
  func lengths() {
    let bytes = SyntheticStream.small.bytes
    for place in 0...bytes.count {
      for value: UInt8 in [0, 0x7E, 0xFF] {
        var longer = bytes
        longer.insert(value, at: place)
        #expect(outcome(longer, "\(value) more at \(place)") != nil, "\(value) more at \(place)")
      }
      guard place < bytes.count else { continue }
      var shorter = bytes
      shorter.remove(at: place)
      #expect(outcome(shorter, "byte \(place) less") != nil, "byte \(place) less")
    }
  }

  @Test("Streams of QEMU with random damage: never a crash", arguments: Fixture.allCases)
  func random(_ fixture: Fixture) throws {
    var numbers = SeededGenerator(for: "QEMUStreamTests.DamageTests")
    let bytes = try fixture.bytes
    let telling = bytes.indices.filter { bytes[$0] != 0 }
    for round in 0..<12 {
      var damaged = bytes
      for _ in 0...Int.random(in: 0..<3, using: &numbers) {
        let place = telling[Int.random(in: 0..<telling.count, using: &numbers)]
        switch Int.random(in: 0..<4, using: &numbers) {
        case 0: damaged.insert(UInt8.random(in: 0...255, using: &numbers), at: place)
        case 1: damaged.remove(at: place)
        default: damaged[place] = UInt8.random(in: 0...255, using: &numbers)
        }
      }
      _ = outcome(damaged, "round \(round)")
    }
  }

  /// How many bytes the description takes at the end.
  private func description(_ bytes: [UInt8]) -> Int {
    let text = Array("{\"page_size\"".utf8)
    let start = bytes.indices.first { bytes[$0...].starts(with: text) } ?? bytes.count
    return bytes.count - start + 5
  }
}
