import GuestRAM
import Support
import Testing
import VirtioBlk
import VirtioCore

@Suite("Block device: anything a driver may send") struct BlockDeviceFuzzTests {
  /// A chain of random buffers, and what memory it lets the device write.
  private struct Chain {
    var buffers: [RingFixture.Buffer] = []
    var writable: [Range<UInt64>] = []
  }

  /// Lays a request out that is sound here and there: a header that may be one, data that may fit, buffers anywhere.
  private static func chain(_ guest: BlockGuest, _ random: inout SeededGenerator) throws -> Chain {
    let heap = guest.bench.heap
    let mostByteCount = DeviceBench<BlockDevice>.heapByteCount
    var chain = Chain()
    let types: [UInt32] = [0, 1, 4, 8, 10, 11, 13, 14, 15, 26, random.once(in: 2) ? 2 : .max]
    let type = types.randomElement(using: &random) ?? 0
    let sector = random.once(in: 4) ? random.next() : UInt64.random(in: 0..<70, using: &random)
    let segmentFlags = random.once(in: 4) ? UInt32.random(in: 0 ... .max, using: &random) : 0
    let header =
      BlockGuest.header(type, sector: sector)
      + BlockGuest.segment(sector, UInt32.random(in: 0..<9, using: &random), flags: segmentFlags)
    let headerPlace = heap + UInt64.random(in: 0..<mostByteCount - 64, using: &random)
    try guest.bench.memory.write(bytes: header, at: GuestAddress(headerPlace))
    let headerCount = random.once(in: 8) ? UInt32.random(in: 0..<33, using: &random) : type < 11 ? 16 : 32
    if !random.once(in: 20) { chain.buffers.append(.readable(headerPlace, headerCount)) }
    var isWritable = false
    for _ in 0..<Int.random(in: 0..<5, using: &random) {
      if random.once(in: 2) { isWritable = true }
      // Most do not overlap the rings, which would make another driver's trouble of it.
      let place =
        random.once(in: 30) ? random.next() : heap + UInt64.random(in: 0..<mostByteCount - 8192, using: &random)
      let lengths: [UInt32] = [0, 1, 16, 20, 512, 513, 1024, 4096]
      let length =
        random.once(in: 30) ? UInt32.random(in: 0 ... .max, using: &random) : lengths.randomElement(using: &random) ?? 1
      let kind = random.once(in: 40) ? !isWritable : isWritable
      chain.buffers.append(kind ? .writable(place, length) : .readable(place, length))
      if kind {
        chain.writable.append(place..<place.addingReportingOverflow(UInt64(length)).partialValue.clamped(place))
      }
    }
    return chain
  }

  @Test(
    "2.1.2: every chain comes back or the device needs a reset, only device-writable bytes change, and no length is too long"
  )
  func garbage() throws {
    var random = SeededGenerator(for: "garbage to the block device")
    let store = RecordingStore()
    let guest = try BlockGuest(store)
    let heapCount = Int(DeviceBench<BlockDevice>.heapByteCount)
    var brokenCount = 0
    var doneCount = 0
    for _ in 0..<600 {
      var chains: [UInt16: Chain] = [:]
      for _ in 0..<3 {
        let chain = try Self.chain(guest, &random)
        if let head = try guest.bench.rings[0].add(chain.buffers) { chains[head] = chain }
      }
      var before = try guest.bench.memory.readBytes(heapCount, at: GuestAddress(guest.bench.heap))
      try guest.bench.rings[0].publish()
      guest.bench.host.kick(0)
      let after = try guest.bench.memory.readBytes(heapCount, at: GuestAddress(guest.bench.heap))
      for range in chains.values.flatMap(\.writable) where range.lowerBound >= guest.bench.heap {
        let start = Int(clamping: range.lowerBound - guest.bench.heap)
        let end = min(heapCount, start.addingReportingOverflow(range.count).partialValue)
        if start < end { before.replaceSubrange(start..<end, with: after[start..<end]) }
      }
      let isAsItWas = before == after
      #expect(isAsItWas, "a byte that is not device-writable has changed")
      var left = Set(chains.keys)
      for element in try guest.bench.rings[0].takeAllUsed() {
        let chain = try #require(chains[UInt16(element.id)])
        #expect(left.remove(UInt16(element.id)) != nil)
        #expect(UInt64(element.byteCount) <= chain.writable.reduce(0) { $0 + UInt64($1.count) })
        doneCount += 1
      }
      guard guest.bench.host.isBroken else {
        #expect(left.isEmpty)
        continue
      }
      brokenCount += 1
      try guest.bench.host.writeStatus([])
      guest.bench.rings[0] = try RingFixture(size: 64, memory: guest.bench.memory, indirectCapacity: 8)
      try guest.start()
    }
    #expect(brokenCount > 5)
    #expect(doneCount > 600)
    #expect(store.byteCount == 64 * 512)
    #expect(guest.bench.host.device.counters.reads > 0)
    #expect(guest.bench.host.device.counters.writes > 0)
  }
}

extension UInt64 {
  /// The end of a range from `start`, or the last address when it would wrap.
  fileprivate func clamped(_ start: UInt64) -> UInt64 { self < start ? .max : self }
}
