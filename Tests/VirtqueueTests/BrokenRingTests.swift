import GuestRAM
import Support
import Testing
import Virtqueue

/// A driver that breaks each rule in turn, and the name that the queue gives it.
@Suite("Virtqueue: broken rings")
struct BrokenRingTests {
  static let indirect = RingFeatures(indirectDescriptors: true)

  @Test("2.7.6: an available index further ahead than the ring holds", arguments: [0, 5, 65533] as [UInt16])
  func indexTooFarAhead(start: UInt16) throws {
    let fixture = try RingFixture(size: 8, index: start)
    for ahead in [9, 100, 32767, 32768] as [UInt16] {
      try fixture.publish(index: start &+ ahead)
      let error = VirtqueueError.availableIndexTooFarAhead(
        index: start &+ ahead, nextAvailable: start, inFlight: 0, size: 8)
      #expect(try walkFailure(fixture) == error)
    }
  }

  @Test("2.7.6: an available index that goes backwards")
  func indexBackwards() throws {
    var fixture = try RingFixture(size: 8)
    for _ in 0..<4 { try fixture.add([.readable(0, 1)]) }
    try fixture.publish()
    var queue = try fixture.queue()
    #expect(try queue.serveTurn().count == 4)
    try fixture.publish(index: 3)
    #expect(
      failure { () throws(VirtqueueError) in _ = try queue.serveOne() }
        == .availableIndexTooFarAhead(index: 3, nextAvailable: 4, inFlight: 0, size: 8))
  }

  @Test("2.7.6: an available index that takes back entries which the device has seen and not taken")
  func indexTakenBack() throws {
    var fixture = try RingFixture(size: 8)
    for _ in 0..<4 { try fixture.add([.readable(0, 1)]) }
    try fixture.publish()
    var queue = try fixture.queue()
    _ = try queue.serveOne()
    try fixture.publish(index: 2)
    #expect(
      failure { () throws(VirtqueueError) in _ = try queue.requestKicks() }
        == .availableIndexTooFarAhead(index: 2, nextAvailable: 1, inFlight: 0, size: 8))
  }

  @Test("2.7.6: more entries than the ring can hold beside the chains that the device still has")
  func indexOverInFlight() throws {
    var fixture = try RingFixture(size: 4)
    for _ in 0..<3 { try fixture.add([.readable(0, 1)]) }
    try fixture.publish()
    var queue = try fixture.queue()
    for _ in 0..<3 { _ = try queue.take() }
    try fixture.publish(index: 4)
    let fourth = try queue.take()
    #expect(queue.inFlightCount == 4)
    queue.publish()
    try fixture.publish(index: 5)
    #expect(
      failure { () throws(VirtqueueError) in _ = try queue.serveOne() }
        == .availableIndexTooFarAhead(index: 5, nextAvailable: 4, inFlight: 4, size: 4))
    queue.complete(fourth)
  }

  @Test("2.7.6: a restored queue counts what is in flight from before")
  func indexOverRestoredInFlight() throws {
    let fixture = try RingFixture(size: 4, index: 65534)
    try fixture.publish(index: 3)
    var queue = try fixture.queue(nextAvailable: 1)
    #expect(queue.inFlightCount == 3)
    #expect(
      failure { () throws(VirtqueueError) in _ = try queue.serveOne() }
        == .availableIndexTooFarAhead(index: 3, nextAvailable: 1, inFlight: 3, size: 4))
  }

  @Test("2.7.6: a head outside the table", arguments: [8, 9, 32768, 65535] as [UInt16])
  func headOutOfRange(head: UInt16) throws {
    var fixture = try RingFixture(size: 8)
    try fixture.offer(head: head)
    try fixture.publish()
    #expect(try walkFailure(fixture) == .headOutOfRange(head: head, size: 8))
  }

  @Test("2.7.5: a next outside the table", arguments: [8, 32768, 65535] as [UInt16])
  func nextOutOfRange(next: UInt16) throws {
    var fixture = try RingFixture(size: 8)
    try fixture.writeDescriptor(3, address: 0, byteCount: 1, flags: RingFixture.next, next: next)
    try fixture.offer(head: 3)
    try fixture.publish()
    #expect(try walkFailure(fixture) == .nextOutOfRange(next: next, count: 8))
  }

  @Test("2.7.5.3: a next outside the indirect table, though inside the ring's")
  func nextOutOfIndirectTable() throws {
    var fixture = try RingFixture(size: 8)
    let head = try #require(try fixture.send([.readable(0, 1), .readable(0, 1)], shape: .indirect))
    let table = fixture.indirectTable(of: head)
    try fixture.writeDescriptor(1, address: 0, byteCount: 1, flags: RingFixture.next, next: 2, table: table)
    #expect(try walkFailure(fixture, Self.indirect) == .nextOutOfRange(next: 2, count: 2))
  }

  @Test("2.7.5: a chain that loops, by one, by two, or through the whole table", arguments: legalSizes)
  func loop(size: UInt16) throws {
    for period in [1, 2, size] where period <= size {
      var fixture = try RingFixture(size: size, indirectCapacity: 1)
      for index in 0..<size {
        let next = (index + 1) % period
        try fixture.writeDescriptor(index, address: 0, byteCount: 1, flags: RingFixture.next, next: next)
      }
      try fixture.offer(head: 0)
      try fixture.publish()
      #expect(try walkFailure(fixture) == .chainTooLong(head: 0, most: Int(size)))
    }
  }

  @Test("2.7.5.3: an indirect table that loops")
  func indirectLoop() throws {
    var fixture = try RingFixture(size: 8)
    let head = try #require(try fixture.send([.readable(0, 0), .readable(0, 0)], shape: .indirect))
    let table = fixture.indirectTable(of: head)
    try fixture.writeDescriptor(1, address: 0, byteCount: 0, flags: RingFixture.next, next: 0, table: table)
    #expect(try walkFailure(fixture, Self.indirect) == .chainTooLong(head: head, most: 2))
  }

  @Test("2.7.4.2: a device-readable buffer after a device-writable one, within a table and over its border")
  func readableAfterWritable() throws {
    for shape in [.direct, .indirect, .directThenIndirect(1)] as [RingFixture.Shape] {
      for empty in [0, 1] as [UInt32] {
        var fixture = try RingFixture(size: 8)
        let head = try #require(try fixture.send([.writable(0, empty), .readable(0, 1)], shape: shape))
        #expect(try walkFailure(fixture, Self.indirect) == .readableAfterWritable(head: head))
      }
    }
  }

  @Test(
    "2.7.5: buffers that add up to 2³² bytes or more",
    arguments: [.direct, .indirect, .directThenIndirect(1)] as [RingFixture.Shape])
  func tooLarge(shape: RingFixture.Shape) throws {
    for last in [1, .max] as [UInt32] {
      var fixture = try RingFixture(size: 8)
      let head = try #require(try fixture.send([.readable(0, .max), .writable(0, last)], shape: shape))
      #expect(try walkFailure(fixture, Self.indirect) == .chainTooLarge(head: head))
    }
  }

  @Test("2.7.5.3.1: an indirect descriptor that was not negotiated")
  func indirectNotNegotiated() throws {
    var fixture = try RingFixture(size: 8)
    let head = try #require(try fixture.send([.readable(0, 1)], shape: .indirect))
    #expect(try walkFailure(fixture) == .indirectNotNegotiated(head: head))
  }

  @Test("2.7.5.3.1: an indirect table inside an indirect table")
  func indirectInsideIndirect() throws {
    var fixture = try RingFixture(size: 8)
    let head = try #require(try fixture.send([.readable(0, 1)], shape: .indirect))
    let table = fixture.indirectTable(of: head)
    try fixture.writeDescriptor(
      0, address: table.rawValue, byteCount: 16, flags: RingFixture.indirect, table: table)
    #expect(try walkFailure(fixture, Self.indirect) == .indirectInsideIndirect(head: head))
  }

  @Test("2.7.5.3.1: a descriptor with INDIRECT and NEXT")
  func indirectWithNext() throws {
    var fixture = try RingFixture(size: 8)
    let head = try #require(try fixture.send([.readable(0, 1)], shape: .indirect))
    try fixture.writeDescriptor(
      head, address: fixture.indirectTable(of: head).rawValue, byteCount: 16,
      flags: RingFixture.indirect | RingFixture.next, next: 0)
    #expect(try walkFailure(fixture, Self.indirect) == .indirectWithNext(head: head))
  }

  @Test(
    "2.7.5.3: an indirect table of no descriptors, of part of one, or of more than 32768",
    arguments: [0, 1, 15, 17, 24, 16 * 32768 + 16, 0x8000_0000, .max] as [UInt32])
  func indirectLength(byteCount: UInt32) throws {
    var fixture = try RingFixture(size: 8)
    let head = try #require(try fixture.send([.readable(0, 1)], shape: .indirect))
    try fixture.writeDescriptor(
      head, address: fixture.indirectTable(of: head).rawValue, byteCount: byteCount, flags: RingFixture.indirect)
    #expect(
      try walkFailure(fixture, Self.indirect) == .illegalIndirectLength(head: head, byteCount: byteCount))
  }

  @Test("2.7.5.3: an indirect table outside guest memory, at its end, and at the end of the address space")
  func indirectOutside() throws {
    for address in [1 << 40, UInt64.max, UInt64.max - 31, 0] {
      var fixture = try RingFixture(size: 8)
      let head = try #require(try fixture.send([.readable(0, 1)], shape: .indirect))
      let table = GuestAddress(address == 0 ? fixture.memory.byteCount - 16 : address)
      try fixture.writeDescriptor(head, address: table.rawValue, byteCount: 32, flags: RingFixture.indirect)
      #expect(
        try walkFailure(fixture, Self.indirect) == .memory(.outside(GuestRange(start: table, byteCount: 32))))
    }
  }

  @Test("2.7.5.3: an indirect table divided over regions is named as that")
  func indirectDivided() throws {
    let memory = try GuestMemory(regions: [
      MemoryRegion(anonymous: 0x8000, start: GuestAddress(0)),
      MemoryRegion(anonymous: 0x8000, start: GuestAddress(0x8000)),
    ])
    var fixture = try RingFixture(size: 8, memory: memory)
    let head = try #require(try fixture.send([.readable(0, 1)], shape: .indirect))
    try fixture.writeDescriptor(head, address: 0x7FF0, byteCount: 32, flags: RingFixture.indirect)
    #expect(
      try walkFailure(fixture, Self.indirect)
        == .memory(.divided(GuestRange(start: GuestAddress(0x7FF0), byteCount: 32))))
  }

  @Test("2.7.4: a buffer outside guest memory is an error when it is read or written, and walked otherwise")
  func bufferOutside() throws {
    for buffer in [RingFixture.Buffer.readable(1 << 50, 4), .readable(.max - 1, 4)] {
      var fixture = try RingFixture(size: 4)
      var writable = buffer
      writable.isWritable = true
      try fixture.add([buffer, writable])
      try fixture.send([buffer, writable])
      var queue = try fixture.queue()
      #expect(try queue.serveOne()?.buffers == [buffer, writable])
      var chain = try queue.take()
      let outside = VirtqueueError.memory(.outside(GuestRange(start: buffer.address, byteCount: 4)))
      #expect(failure { () throws(VirtqueueError) in _ = try chain.read(UInt32.self) } == outside)
      #expect(failure { () throws(VirtqueueError) in _ = try chain.write(UInt32(0)) } == outside)
    }
  }

  @Test("2.7: rings that lie on top of each other break the driver, not the device", arguments: allRingFeatures)
  func overlappingRings(features: RingFeatures) throws {
    let fixture = try RingFixture(size: 8)
    var configuration = try fixture.configuration()
    configuration.availableRing = configuration.usedRing
    configuration.descriptorTable = GuestAddress(configuration.usedRing.rawValue & ~15)
    try fixture.memory.publish(3, at: configuration.usedRing.offset(2))
    configuration.nextAvailable = 3
    var queue = try SplitVirtqueue(configuration, features: features, memory: fixture.memory)
    try fixture.memory.publish(7, at: configuration.usedRing.offset(2))
    let error = failure { () throws(VirtqueueError) in
      for _ in 0..<100 { _ = try queue.serveTurn() }
    }
    #expect(error != nil || queue.inFlightCount <= 8)
  }
}
