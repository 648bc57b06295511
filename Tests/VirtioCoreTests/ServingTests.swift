import GuestRAM
import Support
import Testing
import VirtioCore
import Virtqueue

@Suite("Serving queues")
struct ServingTests {
  @Test("A kick serves all that is there, publishes it and tells the driver once")
  func batch() throws {
    var bench = try DeviceBench(EchoDevice())
    try bench.start()
    let answers = try (0..<5).map { try bench.send([UInt8($0), 1], slot: $0) }
    #expect(bench.host.kick(0) == false)
    #expect(try answers.map { try bench.memory.read(UInt8.self, at: $0) } == [0, 1, 2, 3, 4])
    #expect(try bench.rings[0].takeAllUsed().map(\.byteCount) == [2, 2, 2, 2, 2])
    #expect(bench.notifications.take() == [.queue(0)])
    #expect(bench.host.device.calls.filter { $0 == .serve(0) }.count == 1)
  }

  @Test("A kick with nothing to serve changes nothing and tells nobody")
  func idle() throws {
    var bench = try DeviceBench(EchoDevice())
    try bench.start()
    try bench.send([1])
    bench.host.kick(0)
    bench.notifications.all = []
    #expect(bench.host.kick(0) == false)
    #expect(bench.notifications.take() == [])
    #expect(try bench.rings[0].publishedUsedIndex == 1)
  }

  @Test("2.7.7: a driver that wants no notifications gets none")
  func unwanted() throws {
    var bench = try DeviceBench(EchoDevice())
    try bench.start()
    try bench.rings[0].setInterruptsUnwanted(true)
    try bench.send([1])
    bench.host.kick(0)
    #expect(bench.notifications.take() == [])
    try bench.rings[0].setInterruptsUnwanted(false)
    try bench.send([1])
    bench.host.kick(0)
    #expect(bench.notifications.take() == [.queue(0)])
  }

  @Test("2.7.10: without event indices kicks are unwanted while the device serves, and wanted again when it is done")
  func flags() throws {
    var bench = try DeviceBench(EchoDevice())
    try bench.start()
    let ring = bench.rings[0]
    var during: [UInt16] = []
    bench.host.update { $0.afterServing = { _ in during.append((try? ring.usedFlags) ?? 99) } }
    try bench.send([1])
    bench.host.kick(0)
    #expect(during == [1])
    #expect(try ring.usedFlags == 0)
  }

  @Test(
    "2.7.7: with event indices the driver is told when its index is passed, and kicks are asked for at the next buffer")
  func eventIndex() throws {
    var bench = try DeviceBench(EchoDevice())
    try bench.start([.version1, .eventIndex])
    try bench.send([1])
    bench.host.kick(0)
    #expect(bench.notifications.take() == [.queue(0)])
    try bench.rings[0].setUsedEvent(3)
    for _ in 0..<2 {
      try bench.send([1])
      bench.host.kick(0)
      #expect(bench.notifications.take() == [])
    }
    try bench.send([1])
    bench.host.kick(0)
    #expect(bench.notifications.take() == [.queue(0)])
    #expect(try bench.rings[0].availableEvent == 4)
    #expect(try bench.rings[0].usedFlags == 0)
  }

  @Test("Buffers that come while the device serves are served without another kick")
  func inBetween() throws {
    for features: Features in [[.version1], [.version1, .eventIndex]] {
      var bench = try DeviceBench(EchoDevice())
      try bench.start(features)
      var driver = bench.rings[0]
      var left = 3
      let buffer = RingFixture.Buffer.readable(bench.heap, 1)
      bench.host.update { device in
        device.afterServing = { _ in
          guard left > 0 else { return }
          left -= 1
          _ = try? driver.send([buffer])
        }
      }
      #expect(bench.host.kick(0) == false)
      #expect(try bench.rings[0].publishedUsedIndex == 3)
    }
  }

  @Test("A driver that never pauses does not keep the thread: the host comes back and says that there is more")
  func endless() throws {
    for features: Features in [[.version1], [.version1, .eventIndex]] {
      var bench = try DeviceBench(EchoDevice())
      try bench.start(features)
      var driver = bench.rings[0]
      var addedCount = 0
      let buffer = RingFixture.Buffer.readable(bench.heap, 1)
      bench.host.update { device in
        device.afterServing = { _ in
          _ = try? driver.takeAllUsed()
          guard addedCount < 1000, (try? driver.send([buffer])) != nil else { return }
          addedCount += 1
        }
      }
      var callCount = 0
      while bench.host.kick(0) { callCount += 1 }
      #expect((10...1000).contains(callCount))
      #expect(addedCount == 1000)
      #expect(try bench.rings[0].publishedUsedIndex == 1000)
    }
  }

  @Test("Two queues are served in turn, and a kick of either goes round both")
  func twoQueues() throws {
    var bench = try DeviceBench(EchoDevice())
    try bench.start()
    for queue in 0..<2 { try bench.send([1], to: queue, slot: UInt64(queue)) }
    bench.host.kick(1)
    bench.host.kick(0)
    #expect(bench.host.device.calls.suffix(2) == [.serve(1), .serve(0)])
    #expect(bench.host.hasChainsInFlight == true)
    #expect(bench.notifications.take().contains(.queue(0)))
    bench.host.wake()
    #expect(bench.notifications.take() == [.queue(1)])
    #expect(bench.host.hasChainsInFlight == false)
  }

  @Test("The rest of a turn is served with a kick of any queue, even when the one it was for is gone")
  func restOfTurn() throws {
    var bench = try DeviceBench(EchoDevice())
    try bench.start()
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
    _ = try bench.host.stopQueue(1)
    bench.host.kick(1)
    #expect(try bench.memory.acquire(at: driver.availableRing.offset(2)) == driver.publishedUsedIndex)
  }

  @Test("2.7: every ring feature that is offered works through the host", arguments: 0..<8)
  func ringFeatures(mask: Int) throws {
    var features: Features = [.version1]
    for (bit, feature) in [Feature.indirectDescriptors, .eventIndex, .inOrder].enumerated() where mask >> bit & 1 != 0 {
      features.insert(feature)
    }
    var bench = try DeviceBench(EchoDevice(), index: 0xFFF0)
    try bench.start(features)
    for round in 0..<40 {
      let answer = try bench.send([UInt8(round)])
      bench.host.kick(0)
      #expect(try bench.memory.read(UInt8.self, at: answer) == UInt8(round))
      #expect(try bench.rings[0].takeUsed()?.byteCount == 1)
    }
  }
}

@Suite("Broken rings")
struct BrokenTests {
  /// Breaks a queue by claiming more buffers than the ring holds.
  private func broken(_ features: Features = [.version1]) throws -> DeviceBench<EchoDevice> {
    var bench = try DeviceBench(EchoDevice())
    try bench.start(features)
    try bench.rings[0].publish(index: 1000)
    bench.host.kick(0)
    return bench
  }

  private var error: VirtqueueError {
    .availableIndexTooFarAhead(index: 1000, nextAvailable: 0, inFlight: 0, size: 64)
  }

  @Test("2.1.2: the status says DEVICE_NEEDS_RESET, and a configuration change notification tells the driver")
  func needsReset() throws {
    let bench = try broken()
    #expect(bench.host.failure == error)
    #expect(bench.host.isBroken == true)
    #expect(bench.host.status.rawValue == 1 | 2 | 4 | 8 | 64)
    #expect(bench.notifications.take().prefix(2) == [.broken(queue: 0, error), .configuration])
  }

  @Test("Nothing more is served, not on the other queue either, and one error is reported once")
  func servedNoMore() throws {
    var bench = try broken()
    bench.notifications.all = []
    let calls = bench.host.device.calls
    for queue in 0..<2 {
      try bench.rings[queue].publish(index: 0)
      try bench.send([1], to: queue)
      #expect(bench.host.kick(queue) == false)
    }
    #expect(bench.host.wake() == false)
    bench.host.pause()
    #expect(bench.host.resume() == false)
    #expect(try bench.host.setEnabled(0, true) == false)
    #expect(bench.host.device.calls == calls)
    #expect(bench.notifications.take() == [])
    #expect(try bench.rings[0].publishedUsedIndex == 0)
  }

  @Test("2.4: a reset recovers")
  func recovery() throws {
    var bench = try broken()
    try bench.host.writeStatus([])
    #expect(bench.host.failure == nil)
    #expect(bench.host.status == [])
    try bench.rings[0].publish(index: 0)
    try bench.start()
    let answer = try bench.send([4])
    bench.host.kick(0)
    #expect(try bench.memory.read(UInt8.self, at: answer) == 4)
  }

  @Test("A driver that echoes the status with DEVICE_NEEDS_RESET in it breaks no rule, and does not recover by it")
  func echoedStatus() throws {
    var bench = try broken()
    try bench.host.writeStatus(bench.host.status)
    try bench.host.writeStatus(bench.host.status.subtracting(.needsReset))
    #expect(bench.host.isBroken == true)
  }

  @Test("What was answered before the broken chain reaches the driver")
  func answeredBefore() throws {
    var bench = try DeviceBench(EchoDevice())
    try bench.start()
    try bench.send([1])
    let loop = try #require(try bench.rings[0].add([.readable(bench.heap, 1)]))
    try bench.rings[0].writeDescriptor(loop, address: bench.heap, byteCount: 1, flags: RingFixture.next, next: loop)
    try bench.rings[0].publish()
    bench.host.kick(0)
    #expect(bench.host.failure == .chainTooLong(head: loop, most: 64))
    #expect(try bench.rings[0].publishedUsedIndex == 1)
    #expect(bench.notifications.take().contains(.queue(0)))
  }

  @Test("A queue that broke with a chain in the model's hands stops at the index of that chain")
  func stops() throws {
    var bench = try DeviceBench(EchoDevice())
    try bench.start()
    try bench.send([1])
    try bench.rings[0].send([.readable(.max - 8, 4)])
    bench.host.kick(0)
    #expect(bench.host.isBroken == true)
    #expect(try bench.host.stopQueue(0) == 1)
    #expect(bench.host.isRunning(0) == false)
  }

  @Test("A ring that is found broken while the model looks at another thing breaks the device")
  func duringWake() throws {
    var bench = try DeviceBench(EchoDevice())
    try bench.start()
    try bench.rings[1].publish(index: 1000)
    #expect(bench.host.wake() == false)
    #expect(bench.host.isBroken == true)
    #expect(bench.notifications.take().contains(.configuration))
  }
}
