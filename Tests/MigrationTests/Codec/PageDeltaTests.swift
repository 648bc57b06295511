import Support
import Testing

@testable import Migration

@Suite("Codec: deltas of pages") struct PageDeltaTests {
  /// `bytes` with so many runs of up to `most` bytes changed.
  private func changed(_ bytes: [UInt8], runs: Int, most: Int, using random: inout SeededGenerator) -> [UInt8] {
    var changed = bytes
    for _ in 0..<runs where !bytes.isEmpty {
      let start = Int.random(in: 0..<bytes.count, using: &random)
      for place in start..<min(start + Int.random(in: 1...most, using: &random), bytes.count) {
        changed[place] = UInt8.random(in: 0...255, using: &random)
      }
    }
    return changed
  }

  @Test("a delta makes the new page of the old one", arguments: Content.allCases)
  func roundTrip(_ content: Content) {
    var random = SeededGenerator(for: "delta round trip")
    for length in Array(0...70) + [4096, 65536] {
      for (runs, most) in [(1, 1), (3, 3), (10, 20), (min(length / 3, 400), 2), (1, max(length, 1))] {
        let old = content.bytes(length, using: &random)
        let new = changed(old, runs: runs, most: most, using: &random)
        let delta = pageDelta(old, new, atMost: 2 * length + 8)
        #expect(delta.flatMap { applied($0, to: old) } == new, "\(length) bytes, \(runs) runs")
        #expect(delta?.isEmpty == (old == new))
      }
    }
  }

  @Test("a delta is made in exactly the room that it needs, and not in less")
  func exactRoom() throws {
    var random = SeededGenerator(for: "delta exact room")
    for _ in 0..<100 {
      let old = Content.noise.bytes(Int.random(in: 1...300, using: &random), using: &random)
      let new = changed(old, runs: 5, most: 20, using: &random)
      let delta = try #require(pageDelta(old, new, atMost: 1000))
      #expect(pageDelta(old, new, atMost: delta.count) == delta)
      for less in 0..<delta.count { #expect(pageDelta(old, new, atMost: less) == nil) }
    }
  }

  @Test("runs of unchanged and changed bytes, counted in LEB128")
  func layout() {
    var new = [UInt8](repeating: 0, count: 70_000 - 5000)
    new[3] = 1
    new[300] = 2
    new[301] = 3
    new[20_000] = 4
    let delta = pageDelta([UInt8](repeating: 0, count: new.count), new, atMost: 100)
    #expect(delta == [3, 1, 1, 0xA8, 0x02, 2, 2, 3, 0xF2, 0x99, 0x01, 1, 4])
  }

  @Test("one or two unchanged bytes do not end a run, three do, wherever they lie")
  func gaps() {
    for start in 0..<24 {
      for gap in 1...4 {
        var new = [UInt8](repeating: 0, count: 64)
        new[start] = 1
        new[start + 1] = 1
        new[start + 2 + gap] = 1
        let delta = pageDelta([UInt8](repeating: 0, count: 64), new, atMost: 64)
        #expect(delta?.prefix(2) == [UInt8(start), gap < 3 ? UInt8(3 + gap) : 2], "\(gap) at \(start)")
      }
    }
  }

  @Test("a delta that is broken is refused: cut off, beyond the page, without bytes, endless counts")
  func refused() {
    let page = [UInt8](repeating: 0, count: 10)
    let broken: [[UInt8]] = [
      [0], [0, 1], [0, 0], [3, 0], [0x80], [0, 0x80], [10, 1, 7], [11, 1, 7], [9, 2, 7, 7], [0, 11] + page + [1],
      [0x80, 0x80, 0x80, 0x00, 1, 7], [0xFF, 0xFF, 0x7F, 1, 7], [0, 0xFF, 0xFF, 0x7F, 7], [0, 1, 7, 9],
      [0, 1, 7, 9, 1, 7],
    ]
    for delta in broken { #expect(applied(delta, to: page) == nil, "\(delta)") }
    #expect(applied([9, 1, 7], to: page) == [UInt8](repeating: 0, count: 9) + [7])
    #expect(applied([], to: page) == page)
  }

  @Test("what is cut off, changed or random gives a page or a refusal")
  func hostile() {
    var random = SeededGenerator(for: "delta hostile")
    let old = Content.noise.bytes(400, using: &random)
    let delta = pageDelta(old, changed(old, runs: 20, most: 20, using: &random), atMost: 800) ?? []
    for end in delta.indices { _ = applied([UInt8](delta.prefix(end)), to: old) }
    for place in delta.indices {
      for bit in 0..<8 {
        var damaged = delta
        damaged[place] ^= 1 << UInt8(bit)
        let page = applied(damaged, to: old)
        #expect(page == nil || page?.count == old.count)
      }
    }
    for _ in 0..<5000 {
      let bytes = Content.noise.bytes(Int.random(in: 0...40, using: &random), using: &random)
      let count = Int.random(in: 0...300, using: &random)
      let page = applied(bytes, to: [UInt8](repeating: 0, count: count))
      #expect(page == nil || page?.count == count)
    }
  }
}
