import GuestRAM
import Support
import Testing

@testable import Migration

@Suite("Migration: a guest's pages in stretches") struct PageSweepTests {
  private static let (most, huge) = (UInt64(2048), UInt64(512))

  /// The stretches, in numbers of pages, that pieces come in.
  private func stretches(_ pieces: [(start: UInt64, count: UInt64)]) throws -> [[Range<UInt64>]] {
    let pieces = pieces.map { PagePiece(range: pages($0.start, $0.count), isResident: true) }
    var sweep = PageSweep(try GuestMemory(byteCount: 4096), of: pieces)
    var stretches: [[Range<UInt64>]] = []
    while case let next = sweep.nextPieces(), !next.isEmpty {
      stretches.append(
        next.map { $0.range.start.rawValue / pageByteCount..<($0.range.end?.rawValue ?? 0) / pageByteCount })
    }
    return stretches
  }

  @Test("a piece is cut only where a huge page may begin, and one that has no such place in reach waits")
  func cuts() throws {
    #expect(try stretches([(0, 5000)]) == [[0..<2048], [2048..<4096], [4096..<5000]])
    #expect(try stretches([(100, 5000)]) == [[100..<2048], [2048..<4096], [4096..<5100]])
    // 7.5 MiB and then 3 MiB, none of which lies on a border: of these 0.5 MiB would fit.
    #expect(try stretches([(10, 1920), (2100, 768)]) == [[10..<1930], [2100..<2868]])
    // As much of the second as ends at a border.
    #expect(try stretches([(10, 1530), (2000, 800)]) == [[10..<1540, 2000..<2048], [2048..<2800]])
    #expect(try stretches([]) == [])
  }

  @Test("stretches hold every page once, and none more than it may", arguments: 0..<UInt64(50))
  func whole(seed: UInt64) throws {
    var generator = SeededGenerator(seed: seed)
    var (pieces, free) = ([(start: UInt64, count: UInt64)](), UInt64(0))
    for _ in 0..<UInt64.random(in: 1...20, using: &generator) {
      let start = free + .random(in: 1...600, using: &generator)
      pieces.append((start, .random(in: 1...3000, using: &generator)))
      free = start + pieces[pieces.count - 1].count
    }
    let stretches = try stretches(pieces)
    #expect(stretches.allSatisfy { $0.reduce(0) { $0 + $1.count } <= Self.most })
    #expect(stretches.joined().flatMap(\.self) == pieces.flatMap { $0.start..<$0.start + $0.count })
    let ends = Set(pieces.map { $0.start + $0.count })
    #expect(stretches.joined().allSatisfy { ends.contains($0.upperBound) || $0.upperBound % Self.huge == 0 })
  }
}
