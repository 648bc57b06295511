import Balloon
import GuestRAM
import Support
import Testing
import VirtioCore
import Virtqueue

@Suite("Balloon: inflate and deflate") struct InflateTests {
  @Test("5.5.6: inflated pages are given up in one range, and the chain comes back with length 0")
  func inflate() throws {
    let guest = try BalloonGuest(reclaimer: Recorder())
    let used = try guest.send(frames: Array(1000..<1256), to: 0)
    #expect(used?.byteCount == 0)
    #expect(guest.host.device.reclaimer.events == [.gaveUp(pages(1000, 256))])
    #expect(guest.host.device.counters.inflatedPages == 256)
    #expect(guest.host.device.counters.reclaimedBytes == 1 << 20)
    #expect(guest.notifications.all == [.queue(0)])
  }

  @Test("5.5.6: a request's frames are as few ranges as possible, over all its buffers and in any order")
  func coalescing() throws {
    let guest = try BalloonGuest(reclaimer: Recorder())
    let frames: [UInt32] = [2003, 2001, 3000, 2000, 2002, 3001, 2001]
    let address = try guest.store(frames.flatMap { BalloonGuest<Recorder>.bytes($0) })
    // Frames may lie across descriptors: 2.7.4 leaves the framing to the driver.
    let used = try guest.send(
      [.readable(address, 5), .readable(address + 5, 0), .readable(address + 5, 2), .readable(address + 7, 21)], to: 0)
    #expect(used?.byteCount == 0)
    #expect(guest.host.device.reclaimer.events == [.gaveUp(pages(2000, 4)), .gaveUp(pages(3000, 2))])
    #expect(guest.host.device.counters.inflatedPages == 6)
  }

  @Test("5.5.6.2: pages are given up before the request is answered, and taken back before", arguments: [0, 1])
  func order(queue: Int) throws {
    let guest = try BalloonGuest(reclaimer: Recorder())
    let ring = try #require(guest.rings[queue])
    // The element is written when the chain is given back, and the index only after the whole turn.
    let memory = guest.memory
    let untouched: UInt32 = 0xFFFF_FFFF
    for slot in UInt64(0)..<2 { try memory.write(untouched, at: ring.usedRing.offset(4 + 8 * slot)) }
    var seen: [UInt32] = []
    guest.host.update {
      $0.reclaimer.look = {
        for slot in UInt64(0)..<2 {
          seen.append((try? memory.read(UInt32.self, at: ring.usedRing.offset(4 + 8 * slot))) ?? 0)
        }
      }
    }
    let first = try guest.rings[queue]?.add([.readable(guest.store([0x00, 8, 0, 0]), 4)])
    try guest.rings[queue]?.add([.readable(guest.store([0x10, 8, 0, 0]), 4)])
    try guest.rings[queue]?.publish()
    guest.host.kick(queue)
    #expect(seen == [untouched, untouched, UInt32(try #require(first)), untouched])
  }

  @Test("5.5.6: deflated pages are taken back and counted, and the chain comes back with length 0")
  func deflate() throws {
    let guest = try BalloonGuest(reclaimer: Recorder())
    try guest.send(frames: [1000, 1001, 1002], to: 0)
    let used = try guest.send(frames: [1002, 1001], to: 1)
    #expect(used?.byteCount == 0)
    #expect(guest.host.device.reclaimer.events == [.gaveUp(pages(1000, 3)), .tookBack(pages(1001, 2))])
    #expect(guest.host.device.counters.deflatedPages == 2)
  }

  @Test("5.5.6.2: a driver that need not ask may use a page any time, so pages are only released, never held")
  func withoutMustTellHost() throws {
    let guest = try BalloonGuest(reclaimer: Recorder(), accepting: Bit.all & ~Bit.mustTellHost)
    try guest.send(frames: [1000, 1001], to: 0)
    #expect(guest.host.device.reclaimer.events == [.released(pages(1000, 2))])
  }

  @Test("5.5.6: frames outside the guest's memory are left out and counted")
  func outside() throws {
    let guest = try BalloonGuest(reclaimer: Recorder())
    let used = try guest.send(frames: [8190, 8191, 8192, 8193, .max], to: 0)
    #expect(used != nil)
    #expect(guest.host.failure == nil)
    #expect(guest.host.device.reclaimer.events == [.gaveUp(pages(8190, 2))])
    #expect(guest.host.device.counters.inflatedPages == 2)
    #expect(guest.host.device.counters.ignoredBytes == 3 * 4096)
  }

  @Test("5.5.6: a run over a hole in the guest's memory is split there")
  func hole() throws {
    let memory = try GuestMemory(regions: [
      MemoryRegion(memoryFile: 16 << 20, start: GuestAddress(0)),
      MemoryRegion(memoryFile: 1 << 20, start: GuestAddress(17 << 20)),
    ])
    let guest = try BalloonGuest(reclaimer: Recorder(), memory: memory)
    try guest.send(frames: Array(4000..<4360), to: 0)
    #expect(guest.host.device.reclaimer.events == [.gaveUp(pages(4000, 96)), .gaveUp(pages(4352, 8))])
    #expect(guest.host.device.counters.ignoredBytes == 256 * 4096)
  }

  @Test("5.5.6: bytes that make up no frame are left alone", arguments: [0, 1, 3, 5, 7])
  func oddLengths(count: Int) throws {
    let guest = try BalloonGuest(reclaimer: Recorder())
    let bytes = Array([0xE8, 3, 0, 0, 0xE9, 3, 0, 0].prefix(count)) as [UInt8]
    let used = try guest.send(bytes: bytes, to: 0)
    #expect(used?.byteCount == 0)
    #expect(guest.host.device.reclaimer.events == (count < 4 ? [] : [.gaveUp(pages(1000))]))
    #expect(guest.host.failure == nil)
  }

  @Test("5.5.6: device-writable buffers hold no frames")
  func writable() throws {
    let guest = try BalloonGuest(reclaimer: Recorder())
    let address = try guest.store([0xE8, 3, 0, 0])
    let used = try guest.send([.readable(address, 4), .writable(0x40_0000, 4096)], to: 0)
    #expect(used?.byteCount == 0)
    #expect(guest.host.device.reclaimer.events == [.gaveUp(pages(1000))])
  }

  @Test("a chain that names its buffer over and over is refused once it names more pages than there are")
  func endless() throws {
    let guest = try BalloonGuest(reclaimer: Recorder())
    // 32 MiB are 8192 pages; nine buffers of 1024 frames are more.
    let buffer = RingFixture.Buffer.readable(0x10_0000, 4096)
    try guest.send([RingFixture.Buffer](repeating: buffer, count: 9), to: 0)
    #expect(guest.host.failure == .malformedRequest("chain 0 names more pages than the guest has"))
    #expect(guest.host.status.contains(.needsReset))
  }

  @Test("2.7.5: lengths of 2³² bytes and more are the chain's error, whatever they hold")
  func tooLarge() throws {
    let guest = try BalloonGuest(reclaimer: Recorder())
    try guest.send([.readable(0x10_0000, 4), .readable(0x10_0000, .max)], to: 0)
    #expect(guest.host.failure == .chainTooLarge(head: 0))
    #expect(guest.host.device.reclaimer.events.isEmpty)
  }

  @Test("a buffer outside the guest's memory breaks the device, and nothing of the request is given up")
  func unreachable() throws {
    let guest = try BalloonGuest(reclaimer: Recorder())
    let address = try guest.store([0xE8, 3, 0, 0])
    try guest.send([.readable(address, 4), .readable(0x1_0000_0000, 4)], to: 0)
    #expect(guest.host.failure != nil)
    #expect(guest.host.device.reclaimer.events.isEmpty)
  }

  @Test("pages of a request that broke off are not given up with the next driver's")
  func leftovers() throws {
    let guest = try BalloonGuest(reclaimer: Recorder())
    let address = try guest.store([0xE8, 3, 0, 0])
    try guest.send([.readable(address, 4), .readable(0x1_0000_0000, 4)], to: 0)
    guest.host.reset()
    try guest.host.acceptFeatures(Features(low: Bit.mustTellHost | Bit.version1))
    let ring = try RingFixture(size: 64, memory: guest.memory, at: 0x1000, indirectCapacity: 8)
    guest.rings[0] = ring
    try guest.host.startQueue(0, ring.configuration())
    guest.host.update { $0.reclaimer.events = [] }
    try guest.send(frames: [2000], to: 0)
    #expect(guest.host.device.reclaimer.events == [.gaveUp(pages(2000))])
  }

  @Test("what the host refuses to take back is counted and named, and the request is answered")
  func failure() throws {
    let guest = try BalloonGuest(reclaimer: Recorder())
    let failure = GuestMemoryError.unaligned(GuestAddress(1), multipleOf: 4096)
    guest.host.update { $0.reclaimer.failure = failure }
    let used = try guest.send(frames: [1000, 2000], to: 0)
    #expect(used != nil)
    #expect(guest.host.failure == nil)
    #expect(guest.host.device.counters.failedDiscards == 2)
    #expect(guest.host.device.counters.reclaimedBytes == 0)
    #expect(guest.host.device.lastFailure == failure)
  }

  @Test("while reclaiming is inhibited requests are answered and pages stay")
  func inhibited() throws {
    let guest = try BalloonGuest(reclaimer: Recorder())
    guest.host.update { $0.isReclaimInhibited = true }
    #expect(try guest.send(frames: [1000], to: 0) != nil)
    #expect(try guest.send([.writable(0x40_0000, 4096)], to: 4) != nil)
    #expect(guest.host.device.reclaimer.events.isEmpty)
    #expect(guest.host.device.counters.inflatedPages == 1)
    guest.host.update { $0.isReclaimInhibited = false }
    try guest.send(frames: [1001], to: 0)
    #expect(guest.host.device.reclaimer.events == [.gaveUp(pages(1001))])
  }

  @Test("a full ring is served in one kick")
  func batch() throws {
    let guest = try BalloonGuest(reclaimer: Recorder())
    for page in UInt32(0)..<64 {
      try guest.rings[0]?.add([.readable(guest.store(BalloonGuest<Recorder>.bytes(1000 + 2 * page)), 4)])
    }
    try guest.rings[0]?.publish()
    guest.host.kick(0)
    #expect(try guest.rings[0]?.takeAllUsed().count == 64)
    #expect(guest.host.device.counters.inflatedPages == 64)
    #expect(guest.notifications.all == [.queue(0)])
  }
}

@Suite("Balloon: turns") struct BalloonTurnTests {
  @Test("requests that take long end the turn, what is left is served in the next, and none is lost")
  func longRequests() throws {
    let most = 65_536
    let memory = try GuestMemory(byteCount: UInt64(most) * 4096 + (1 << 20))
    let guest = try BalloonTurnGuest(memory)
    // Each names every second page of 32 768, over one array that lies in memory once.
    for _ in 0..<5 { try guest.offer(frameCount: 32_768) }
    #expect(guest.kick())
    #expect(try guest.usedIndex() == 2)
    #expect(guest.kick())
    #expect(try guest.usedIndex() == 4)
    while guest.kick() {}
    #expect(try guest.usedIndex() == 5)
  }
}

/// A driver that offers the same large array again and again.
final class BalloonTurnGuest {
  var host: DeviceHost<BalloonDevice<IdleReclaimer>>
  private let memory: GuestMemory
  private var index: UInt16 = 0

  init(_ memory: GuestMemory) throws {
    self.memory = memory
    host = DeviceHost(BalloonDevice(reclaimer: IdleReclaimer())) { _ in }
    try host.attach(memory)
    try host.acceptFeatures([.version1])
    let configuration = QueueConfiguration(
      size: 8, descriptorTable: GuestAddress(0x1000), availableRing: GuestAddress(0x1100),
      usedRing: GuestAddress(0x1200))
    try host.startQueue(0, configuration)
    for place in 0..<32_768 as Range<UInt64> {
      try memory.write(UInt32(2 * place % 65_536), at: GuestAddress(0x10000 + 4 * place))
    }
  }

  func offer(frameCount: UInt32) throws {
    let slot = UInt64(index % 8)
    try memory.write(UInt64(0x10000), at: GuestAddress(0x1000 + 16 * slot))
    try memory.write(UInt64(4 * frameCount), at: GuestAddress(0x1008 + 16 * slot))
    try memory.write(UInt16(slot), at: GuestAddress(0x1104 + 2 * slot))
    index += 1
    try memory.publish(index, at: GuestAddress(0x1102))
  }

  func kick() -> Bool { host.kick(0) }

  func usedIndex() throws -> UInt16 {
    try memory.acquire(at: GuestAddress(0x1202))
  }
}

/// Takes pages and does nothing with them.
struct IdleReclaimer: PageReclaimer {
  mutating func giveUp(_ range: GuestRange, of memory: GuestMemory) throws(GuestMemoryError) -> UInt64 { 0 }
  mutating func release(_ range: GuestRange, of memory: GuestMemory) throws(GuestMemoryError) -> UInt64 { 0 }
  mutating func takeBack(_ range: GuestRange, of memory: GuestMemory) {}
  mutating func reset() {}
}
