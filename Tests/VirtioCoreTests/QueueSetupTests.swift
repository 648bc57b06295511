import GuestRAM
import Support
import Testing
import VirtioCore
import Virtqueue

@Suite("Setting queues up")
struct QueueSetupTests {
  @Test("A queue that the device does not have is refused", arguments: [-1, 2, Int.max, Int.min])
  func noSuchQueue(index: Int) throws {
    var bench = try DeviceBench(EchoDevice())
    try bench.start()
    let configuration = try bench.rings[0].configuration()
    let error = HostError.noSuchQueue(index, count: 2)
    #expect(refusal { () throws(HostError) in try bench.host.startQueue(index, configuration) } == error)
    #expect(refusal { () throws(HostError) in try bench.host.stopQueue(index) } == error)
    #expect(refusal { () throws(HostError) in try bench.host.resetQueue(index) } == error)
    #expect(refusal { () throws(HostError) in try bench.host.setEnabled(index, true) } == error)
    #expect(bench.host.isRunning(index) == false)
    #expect(bench.host.kick(index) == false)
  }

  @Test("2.6: a queue must not be larger than the device's, and may be smaller")
  func size() throws {
    var bench = try DeviceBench(EchoDevice())
    try bench.start(queues: [])
    var configuration = try bench.rings[0].configuration()
    #expect(
      refusal { () throws(HostError) in try bench.host.startQueue(1, configuration) } == .queueTooLarge(64, most: 16))
    configuration.size = 8
    try bench.host.startQueue(1, configuration)
    #expect(bench.host.isRunning(1) == true)
  }

  @Test("A queue needs guest memory")
  func noMemory() throws {
    var bench = try DeviceBench(EchoDevice())
    let configuration = try bench.rings[0].configuration()
    #expect(refusal { () throws(HostError) in try bench.host.startQueue(0, configuration) } == .noMemory)
    #expect(bench.host.device.calls == [])
  }

  @Test("2.7: an illegal ring is refused by name, and nothing runs")
  func illegalRing() throws {
    var bench = try DeviceBench(EchoDevice())
    try bench.start(queues: [])
    let good = try bench.rings[0].configuration()
    var odd = good
    odd.size = 3
    var crooked = good
    crooked.descriptorTable = GuestAddress(8)
    var outside = good
    outside.usedRing = GuestAddress(.max - 3)
    var ahead = good
    ahead.nextAvailable = 100
    #expect(failure(&bench, odd) == .illegalSize(3))
    #expect(failure(&bench, crooked) == .memory(.unaligned(GuestAddress(8), multipleOf: 16)))
    #expect(
      failure(&bench, outside)
        == .memory(.outside(GuestRange(start: GuestAddress(.max - 3), byteCount: 4 + 8 * 64))))
    #expect(failure(&bench, ahead) == .usedIndexDoesNotFit(used: 0, nextAvailable: 100, size: 64))
    #expect(bench.host.isRunning(0) == false)
    try bench.host.startQueue(0, good)
  }

  private func failure(_ bench: inout DeviceBench<EchoDevice>, _ configuration: QueueConfiguration) -> VirtqueueError? {
    let error = refusal { () throws(HostError) in try bench.host.startQueue(0, configuration) }
    guard case .virtqueue(let error) = error else { return nil }
    return error
  }

  @Test("A running queue is not started again")
  func twice() throws {
    var bench = try DeviceBench(EchoDevice())
    try bench.start()
    let configuration = try bench.rings[0].configuration()
    #expect(refusal { () throws(HostError) in try bench.host.startQueue(0, configuration) } == .queueRunning(0))
  }

  @Test("A stopped queue says where to go on, and goes on there")
  func stop() throws {
    var bench = try DeviceBench(EchoDevice(), index: 0xFFFE)
    try bench.start()
    for number in 0..<3 { try bench.send([UInt8(number)], slot: UInt64(number)) }
    bench.host.kick(0)
    let next = try bench.host.stopQueue(0)
    #expect(next == 1)
    #expect(try bench.host.stopQueue(0) == 1)
    let answer = try bench.send([9])
    bench.host.kick(0)
    #expect(try bench.rings[0].publishedUsedIndex == 1)
    try bench.host.startQueue(0, bench.rings[0].configuration(nextAvailable: next))
    bench.host.kick(0)
    #expect(try bench.memory.read(UInt8.self, at: answer) == 9)
    #expect(try bench.rings[0].publishedUsedIndex == 2)
  }

  @Test("A queue that was never started stops at 0")
  func neverStarted() throws {
    var bench = try DeviceBench(EchoDevice())
    #expect(try bench.host.stopQueue(1) == 0)
  }

  @Test("A queue with a chain in flight is not stopped before wake has given it back")
  func inFlight() throws {
    var bench = try DeviceBench(EchoDevice())
    try bench.start()
    try bench.send([1], to: 1)
    bench.host.kick(1)
    #expect(
      refusal { () throws(HostError) in try bench.host.stopQueue(1) } == .chainsInFlight(queue: 1, count: 1))
    bench.host.wake()
    #expect(try bench.host.stopQueue(1) == 1)
  }

  @Test("2.6.1: a queue that is reset forgets its buffers and is set up anew")
  func reset() throws {
    var bench = try DeviceBench(EchoDevice())
    try bench.start()
    try bench.send([1], to: 1)
    bench.host.kick(1)
    try bench.host.resetQueue(1)
    #expect(bench.host.isRunning(1) == false)
    #expect(bench.host.device.calls.last == .resetQueue(1))
    bench.rings[1] = try RingFixture(size: 16, memory: bench.memory, at: bench.rings[1].descriptorTable.rawValue)
    try bench.host.startQueue(1, bench.rings[1].configuration())
    try bench.send([2], to: 1)
    bench.host.kick(1)
    bench.host.wake()
    #expect(try bench.rings[1].publishedUsedIndex == 1)
    // The other queue went on.
    try bench.send([3])
    bench.host.kick(0)
    #expect(try bench.rings[0].publishedUsedIndex == 1)
  }

  @Test("A disabled queue is not served; enabling it serves what came in the meantime")
  func enabling() throws {
    var bench = try DeviceBench(EchoDevice())
    try bench.host.setEnabled(0, false)
    try bench.start()
    try bench.send([1])
    bench.host.kick(0)
    bench.host.wake()
    #expect(try bench.rings[0].publishedUsedIndex == 0)
    #expect(try bench.host.setEnabled(0, true) == false)
    #expect(try bench.rings[0].publishedUsedIndex == 1)
    try bench.host.setEnabled(0, false)
    try bench.send([2], slot: 1)
    bench.host.kick(0)
    #expect(try bench.rings[0].publishedUsedIndex == 1)
  }

  @Test(
    "Buffers of a queue that is not started are given back unread where the model drops them", arguments: [true, false])
  func discarding(eventIndex: Bool) throws {
    var bench = try DeviceBench(EchoDevice(), index: 0xFFFE)
    try bench.start(eventIndex ? [.version1, .eventIndex] : [.version1], queues: [])
    for slot in 0..<3 { try bench.send([7], slot: UInt64(slot)) }
    var configuration = try bench.rings[0].configuration()
    #expect(try bench.host.discardBuffers(ofQueue: 0, configuration) == 0xFFFE)
    #expect(bench.notifications.take() == [])

    bench.host.update { $0.discarding = [0] }
    let calls = bench.host.device.calls
    configuration.nextAvailable = try bench.host.discardBuffers(ofQueue: 0, configuration)
    #expect(configuration.nextAvailable == 1)
    #expect(try bench.rings[0].takeAllUsed().map(\.byteCount) == [0, 0, 0])
    #expect(bench.notifications.take() == [.queue(0)])
    #expect(bench.host.device.calls == calls)
    let index = bench.rings[0].availableIndex
    try bench.send([7])
    #expect(try bench.rings[0].wantsKick(since: index, eventIndex: eventIndex))
    #expect(try bench.host.discardBuffers(ofQueue: 0, configuration) == 2)
    configuration.nextAvailable = 2

    _ = bench.notifications.take()
    #expect(try bench.host.discardBuffers(ofQueue: 0, configuration) == 2)
    #expect(bench.notifications.take() == [])
    try bench.host.startQueue(0, configuration)
    let error = refusal { () throws(HostError) in try bench.host.discardBuffers(ofQueue: 0, configuration) }
    #expect(error == .queueRunning(0))
  }

  @Test("A model does not take from a queue that is disabled, but gives back what it had")
  func disabledInFlight() throws {
    var bench = try DeviceBench(EchoDevice())
    try bench.start()
    for slot in 0..<2 { try bench.send([1], to: 1, slot: UInt64(slot)) }
    bench.host.kick(1)
    try bench.host.setEnabled(1, false)
    bench.host.wake()
    bench.host.wake()
    #expect(try bench.rings[1].publishedUsedIndex == 1)
    #expect(bench.host.hasChainsInFlight == false)
  }
}

@Suite("Guest memory of a device")
struct AttachTests {
  @Test("Another map while queues run: they go on where they were, in the new one")
  func another() throws {
    var bench = try DeviceBench(EchoDevice(), index: 0xFFFF)
    try bench.start([.version1, .eventIndex])
    try bench.send([1])
    bench.host.kick(0)
    let log = try DirtyLog(coveringUpTo: GuestAddress(bench.memory.byteCount))
    try bench.host.attach(bench.memory.with(dirtyLog: log))
    let answer = try bench.send([2], slot: 1)
    bench.host.kick(0)
    #expect(try bench.memory.read(UInt8.self, at: answer) == 2)
    #expect(try bench.rings[0].publishedUsedIndex == 1)
    #expect(log.isMarked(page: answer.rawValue / 4096))
  }

  @Test("A map without the rings is refused, and the old one stays")
  func tooSmall() throws {
    var bench = try DeviceBench(EchoDevice())
    try bench.start()
    let small = try GuestMemory(byteCount: 4096)
    #expect(refusal { () throws(HostError) in try bench.host.attach(small) } != nil)
    try bench.send([1])
    bench.host.kick(0)
    #expect(try bench.rings[0].publishedUsedIndex == 1)
  }

  @Test("A chain in flight would write past the new map's dirty log, so the map is not changed before it is back")
  func inFlight() throws {
    var bench = try DeviceBench(EchoDevice())
    try bench.start()
    try bench.send([1], to: 1)
    bench.host.kick(1)
    let memory = bench.memory
    #expect(refusal { () throws(HostError) in try bench.host.attach(memory) } == .chainsInFlight(queue: 1, count: 1))
    bench.host.wake()
    try bench.host.attach(memory)
    #expect(try bench.rings[1].publishedUsedIndex == 1)
  }

  @Test("Buffers that waited for the device's next turn still do")
  func waiting() throws {
    var bench = try DeviceBench(EchoDevice())
    try bench.startWithoutStatus([.version1, .eventIndex])
    var driver = bench.rings[0]
    let buffer = RingFixture.Buffer.readable(bench.heap, 1)
    bench.host.update { device in
      device.afterServing = { _ in
        _ = try? driver.takeAllUsed()
        _ = try? driver.send([buffer])
      }
    }
    #expect(bench.host.kick(0) == true)
    bench.host.update { $0.afterServing = { _ in } }
    let left = try bench.memory.acquire(at: driver.availableRing.offset(2)) &- driver.publishedUsedIndex
    try bench.host.attach(bench.memory)
    // A kick of any queue is the turn that was asked for.
    bench.host.kick(1)
    #expect(left > 0)
    #expect(try bench.memory.acquire(at: driver.availableRing.offset(2)) == driver.publishedUsedIndex)
  }

  @Test("Memory is taken away only when nothing runs on it")
  func detach() throws {
    var bench = try DeviceBench(EchoDevice())
    try bench.start()
    #expect(refusal { () throws(HostError) in try bench.host.detachMemory() } == .queuesRunning)
    for queue in 0..<2 { _ = try bench.host.stopQueue(queue) }
    try bench.host.detachMemory()
    #expect(bench.host.wake() == false)
    let configuration = try bench.rings[0].configuration()
    #expect(refusal { () throws(HostError) in try bench.host.startQueue(0, configuration) } == .noMemory)
  }
}
