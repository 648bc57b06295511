import Support
import Testing

@testable import VirtioNet

@Suite("Packet ring") struct PacketRingTests {
  @Test("packets of any length leave in the order in which they came, and none is lost that was taken")
  func order() {
    var random = SeededGenerator(for: "PacketRing order")
    var ring = PacketRing(packetCount: 40, byteCount: 0)
    var expected: [[UInt8]] = []
    for number in 0..<20_000 {
      if random.once(in: 2) {
        let byteCount =
          random.once(in: 8) ? Int.random(in: 0...65000, using: &random) : Int.random(in: 0...2000, using: &random)
        let frame = [UInt8](repeating: UInt8(truncatingIfNeeded: number), count: byteCount)
        var batch = PacketBatch()
        batch.append(frame[...])
        let isTaken = ring.append(batch.packet(0), of: batch.bytes, stamp: UInt64(number))
        if isTaken { expected.append(frame) }
        let isEmpty = ring.isEmpty
        #expect(isTaken || !isEmpty, "there is always room for one")
      } else {
        var batch = PacketBatch()
        let hasMoved = ring.moveFirst(into: &batch)
        #expect(hasMoved == !expected.isEmpty)
        guard !expected.isEmpty else { continue }
        #expect(Array(batch.bytes[batch.frame(0)]) == expected.removeFirst())
      }
      let count = ring.count
      #expect(count == expected.count)
    }
  }

  @Test("a batch without room leaves the packet where it is")
  func noRoom() {
    var ring = PacketRing(packetCount: 4, byteCount: 0)
    var batch = PacketBatch(byteCount: 0)
    batch.append([UInt8](repeating: 1, count: 100)[...])
    let isTaken = ring.append(batch.packet(0), of: batch.bytes, stamp: 9)
    batch.removeAll()
    batch.append([UInt8](repeating: 1, count: PacketBatch.largestFrameByteCount - 50)[...])
    let hasMoved = ring.moveFirst(into: &batch)
    let stamp = ring.firstStamp
    #expect(isTaken && !hasMoved && stamp == 9)
    batch.removeAll()
    let hasMovedNow = ring.moveFirst(into: &batch)
    let count = batch.count
    #expect(hasMovedNow && count == 1)
  }
}
