import Support
import Testing

@testable import GuestRAM

@Suite("GuestRAM: page marks") struct PageMarksTests {
  @Test("runs agree with a set of pages, whatever was put in and taken out")
  func oracle() {
    var random = SeededGenerator(for: "PageMarksTests.oracle")
    for pageCount in [1, 63, 64, 65, 200] {
      var marks = PageMarks(pageCount: pageCount)
      var expected: Set<Int> = []
      for _ in 0..<200 {
        let first = Int.random(in: 0..<pageCount, using: &random)
        let pages = first..<Int.random(in: first...min(pageCount, first + 70), using: &random)
        if random.once(in: 2) {
          marks.insert(pages)
          expected.formUnion(pages)
        } else {
          marks.remove(pages)
          expected.subtract(pages)
        }
        let most = Int.random(in: 1...80, using: &random)
        var found: [Int] = []
        while let run = marks.run(from: (found.last ?? -1) + 1, upTo: most) {
          #expect(run.count <= most && !run.isEmpty)
          found += run
        }
        #expect(found == expected.sorted())
      }
    }
  }

  @Test("writes that follow each other are let go in ever longer runs, others one by one")
  func following() {
    var writes = FollowingWrites()
    var address: UInt64 = 0x10000
    var counts: [Int] = []
    for _ in 0..<9 {
      let count = writes.pageCount(for: address)
      counts.append(count)
      writes.answered(address, byteCount: count * 4096)
      address += UInt64(count) * 4096
    }
    #expect(counts == [1, 2, 4, 8, 16, 32, 64, 64, 64])
    #expect(writes.pageCount(for: 0) == 1)
    writes.answered(0, byteCount: 4096)
    #expect(writes.pageCount(for: 0x3000) == 1)
  }
}
