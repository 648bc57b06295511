import GuestRAM
import Support
import Testing
import Virtqueue

@Suite("Virtqueue: layout")
struct LayoutTests {
  @Test("2.7: a queue size is a power of two from 1 to 32768, and nothing else is")
  func sizes() throws {
    let legal = (0...UInt16.max).filter { RingLayout.isLegal(size: $0) }
    #expect(legal == legalSizes)
  }

  @Test("2.7: 16 bytes a descriptor, 6 + 2 a ring entry, 6 + 8 a used element; the last 2 only with EVENT_IDX")
  func byteCounts() {
    for size in legalSizes {
      let count = Int(size)
      #expect(RingLayout.descriptorTableByteCount(size: size) == 16 * count)
      #expect(RingLayout.availableRingByteCount(size: size, eventIndex: true) == 6 + 2 * count)
      #expect(RingLayout.availableRingByteCount(size: size, eventIndex: false) == 4 + 2 * count)
      #expect(RingLayout.usedRingByteCount(size: size, eventIndex: true) == 6 + 8 * count)
      #expect(RingLayout.usedRingByteCount(size: size, eventIndex: false) == 4 + 8 * count)
    }
  }

  @Test(
    "2.7: every other size is refused by name", arguments: [0, 3, 6, 255, 257, 32767, 32769, 49152, 65535] as [UInt16])
  func illegalSizes(size: UInt16) throws {
    let memory = try GuestMemory(byteCount: 4 << 20)
    let configuration = QueueConfiguration(
      size: size, descriptorTable: GuestAddress(0), availableRing: GuestAddress(0x20_0000),
      usedRing: GuestAddress(0x30_0000))
    #expect(startFailure(configuration, memory) == .illegalSize(size))
  }

  @Test("2.7: each part may end where memory ends, and not two bytes later", arguments: legalSizes, [false, true])
  func endsOfMemory(size: UInt16, eventIndex: Bool) throws {
    let count = UInt64(size)
    let event: UInt64 = eventIndex ? 2 : 0
    let memory = try GuestMemory(byteCount: 4 << 20)
    let end = memory.byteCount
    let features = RingFeatures(eventIndex: eventIndex)
    let good = QueueConfiguration(
      size: size, descriptorTable: GuestAddress(0), availableRing: GuestAddress(0x20_0000),
      usedRing: GuestAddress(0x30_0000))
    #expect(startFailure(good, memory, features) == nil)

    var table = good
    table.descriptorTable = GuestAddress(end - 16 * count)
    #expect(startFailure(table, memory, features) == nil)
    table.descriptorTable = GuestAddress(end - 16 * count + 16)
    #expect(isOutside(startFailure(table, memory, features)))

    var available = good
    available.availableRing = GuestAddress(end - (4 + 2 * count + event))
    #expect(startFailure(available, memory, features) == nil)
    available.availableRing = available.availableRing.offset(2)
    #expect(isOutside(startFailure(available, memory, features)))

    var used = good
    used.usedRing = GuestAddress((end - (4 + 8 * count + event)) & ~3)
    #expect(startFailure(used, memory, features) == nil)
    used.usedRing = used.usedRing.offset(4)
    #expect(isOutside(startFailure(used, memory, features)))
  }

  @Test("2.7: the parts are multiples of 16, 2 and 4", arguments: [1, 2, 4, 8] as [UInt64])
  func alignment(byteCount: UInt64) throws {
    let fixture = try RingFixture(size: 8)
    let good = try fixture.configuration()
    var table = good
    table.descriptorTable = table.descriptorTable.offset(byteCount)
    #expect(
      startFailure(table, fixture.memory) == .memory(.unaligned(table.descriptorTable, multipleOf: 16)))
    var available = good
    available.availableRing = available.availableRing.offset(byteCount)
    #expect(
      startFailure(available, fixture.memory)
        == (byteCount < 2 ? .memory(.unaligned(available.availableRing, multipleOf: 2)) : nil))
    var used = good
    used.usedRing = used.usedRing.offset(byteCount)
    #expect(
      startFailure(used, fixture.memory)
        == (byteCount < 4 ? .memory(.unaligned(used.usedRing, multipleOf: 4)) : nil))
  }

  @Test("2.7: a part outside guest memory, or at the end of the address space, is refused")
  func outside() throws {
    let fixture = try RingFixture(size: 8)
    let good = try fixture.configuration()
    for address in [1 << 40, UInt64.max - 15, UInt64.max & ~15 - 128] as [UInt64] {
      var table = good
      table.descriptorTable = GuestAddress(address & ~15)
      #expect(isOutside(startFailure(table, fixture.memory)))
      var available = good
      available.availableRing = GuestAddress(address & ~1)
      #expect(isOutside(startFailure(available, fixture.memory)))
      var used = good
      used.usedRing = GuestAddress(address & ~3)
      #expect(isOutside(startFailure(used, fixture.memory)))
    }
  }

  @Test("2.7: a part is one stretch of one region; one that two regions share is refused as divided")
  func divided() throws {
    let memory = try GuestMemory(regions: [
      MemoryRegion(anonymous: 0x4000, start: GuestAddress(0)),
      MemoryRegion(anonymous: 0x4000, start: GuestAddress(0x4000)),
    ])
    let fixture = try RingFixture(size: 16, memory: memory, indirectCapacity: 1)
    let table = GuestRange(start: GuestAddress(0x3F80), byteCount: 256)
    var configuration = try fixture.configuration()
    configuration.descriptorTable = table.start
    #expect(startFailure(configuration, memory) == .memory(.divided(table)))
  }

  @Test("2.7.8: the used index that a queue goes on from is 0 to Queue Size behind the next available one")
  func usedIndexFits() throws {
    for (used, next) in [(0, 0), (0, 8), (65530, 2), (65535, 65535), (65528, 0)] as [(UInt16, UInt16)] {
      let fixture = try RingFixture(size: 8, index: used)
      let queue = try fixture.queue(nextAvailable: next)
      #expect(queue.inFlightCount == next &- used)
      #expect(queue.nextUsed == used)
      #expect(queue.nextAvailable == next)
    }
    for (used, next) in [(0, 9), (1, 0), (65535, 8), (9, 8), (0, 32768)] as [(UInt16, UInt16)] {
      let fixture = try RingFixture(size: 8, index: used)
      #expect(
        startFailure(try fixture.configuration(nextAvailable: next), fixture.memory)
          == .usedIndexDoesNotFit(used: used, nextAvailable: next, size: 8))
    }
  }

  @Test("every error says something that a person can use")
  func descriptions() {
    let errors: [VirtqueueError] = [
      .illegalSize(3), .availableIndexTooFarAhead(index: 9, nextAvailable: 0, inFlight: 0, size: 8),
      .usedIndexDoesNotFit(used: 1, nextAvailable: 0, size: 8), .headOutOfRange(head: 8, size: 8),
      .nextOutOfRange(next: 8, count: 8), .chainTooLong(head: 1, most: 8), .chainTooLarge(head: 1),
      .readableAfterWritable(head: 1), .indirectNotNegotiated(head: 1), .indirectInsideIndirect(head: 1),
      .indirectWithNext(head: 1), .illegalIndirectLength(head: 1, byteCount: 8), .memory(.noRegions),
      .malformedRequest("no header"),
    ]
    #expect(Set(errors.map(\.description)).count == errors.count)
  }
}

func isOutside(_ error: VirtqueueError?) -> Bool {
  guard case .memory(.outside) = error else { return false }
  return true
}
