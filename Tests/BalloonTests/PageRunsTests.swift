import Balloon
import GuestRAM
import Support
import Testing

@Suite("Balloon: page runs") struct PageRunsTests {
  private func drained(_ frames: some Sequence<UInt32>) -> [GuestRange] {
    var runs = PageRuns()
    for frame in frames { runs.insert(frame: frame) }
    var ranges: [GuestRange] = []
    runs.drain(into: &ranges)
    return ranges
  }

  @Test("5.5.6: rising frames are one range")
  func rising() {
    #expect(drained(10..<266) == [pages(10, 256)])
  }

  @Test("5.5.6: falling frames are one range")
  func falling() {
    #expect(drained((10..<266).reversed()) == [pages(10, 256)])
  }

  @Test("5.5.6: falling runs of frames are rising ranges")
  func fallingRuns() {
    #expect(drained([90, 91, 50, 51, 52, 10]) == [pages(10), pages(50, 3), pages(90, 2)])
  }

  @Test("5.5.6: a frame that comes twice counts once, next to itself or far from it")
  func duplicates() {
    #expect(drained([7, 7, 8, 8, 7, 100, 8, 7]) == [pages(7, 2), pages(100)])
    #expect(drained([5, 6, 7, 6, 5, 4]) == [pages(4, 4)])
  }

  @Test("5.5.6: runs that grow towards each other become one")
  func meeting() {
    #expect(drained([1, 2, 9, 8, 3, 4, 7, 6, 5]) == [pages(1, 9)])
  }

  @Test("5.5.6: a frame has 32 bits, so a range may end at 16 TiB and not beyond")
  func extremes() {
    #expect(drained([.max, 0, .max - 1]) == [pages(0), pages(0xFFFF_FFFE, 2)])
    #expect(drained([0, .max]) == [pages(0), pages(0xFFFF_FFFF)])
    #expect(drained([]) == [])
  }

  @Test("5.5.6: frames in any order give the same ranges as a sorted set of them")
  func anyOrder() {
    var random = SeededGenerator(for: "PageRuns: any order")
    for _ in 0..<300 {
      let span = UInt32.random(in: 1...400, using: &random)
      let frames = (0..<Int.random(in: 0...300, using: &random)).map { _ in
        UInt32.random(in: 0...span, using: &random)
      }
      #expect(drained(frames) == Self.oracle(frames))
    }
  }

  /// One page at a time, in order.
  private static func oracle(_ frames: [UInt32]) -> [GuestRange] {
    var ranges: [GuestRange] = []
    for frame in Set(frames).sorted().map(UInt64.init) {
      if let last = ranges.last, last.end == GuestAddress(frame * 4096) {
        ranges[ranges.count - 1] = GuestRange(start: last.start, byteCount: last.byteCount + 4096)
      } else {
        ranges.append(pages(frame))
      }
    }
    return ranges
  }

  @Test("what was drained is forgotten, and the room is bounded")
  func room() {
    var runs = PageRuns()
    var ranges: [GuestRange] = []
    var frame: UInt32 = 0
    while !runs.isFull {
      runs.insert(frame: frame)
      frame += 2
    }
    #expect(frame / 2 == 65_537)
    runs.drain(into: &ranges)
    #expect(ranges.count == 65_537)
    #expect(!runs.isFull)
    ranges = []
    runs.drain(into: &ranges)
    #expect(ranges.isEmpty)
  }

  @Test("frames that no sort likes are still sorted in moderate time")
  func adversarial() {
    let organ = (UInt32(0)..<30_000).map { (place: UInt32) -> UInt32 in place % 2 == 0 ? place * 2 : 120_001 - place * 2
    }
    #expect(drained(organ) == Self.oracle(organ))
  }
}
