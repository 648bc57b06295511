import Balloon
import DeviceState
import GuestRAM
import LinuxIO
import SimulatedGuest
import Support
import Testing
import VirtioCore

extension StatisticReading {
  /// The value, however old; nil when there never was one.
  fileprivate var value: UInt64? {
    switch self {
    case .neverReported: nil
    case .stale(let value, _), .fresh(let value, _): value
    }
  }
}

/// A guest with a balloon on its own thread.
private struct Machine {
  typealias Transport = DirectTransport<BalloonDevice<MemoryReclaimer>>

  var guest: Guest
  let transport: Transport

  init(
    _ options: BalloonOptions = BalloonOptions(), features: BalloonDriver.Features = .all,
    numbering: BalloonDriver.Numbering = .consecutive,
    ring: DriverQueue.Options = DriverQueue.Options(eventIndex: true, indirectDescriptors: true),
    workload: Workload = .idle, pages: UInt64 = 2048, poison: UInt32? = nil
  ) throws {
    let memory = try GuestMemory(byteCount: pages * 4096)
    transport = try Transport(BalloonDevice(options, reclaimer: MemoryReclaimer()), memory: memory)
    guest = try Guest.boot(
      GuestConfiguration(
        seed: 7, diskPages: 32, workingSetPages: 64, poison: poison, workload: workload, pagesPerStep: 32,
        balloon: BalloonDriver.Options(features: features, numbering: numbering, ring: ring)),
      in: memory, balloon: transport)
  }

  /// The same guest and device in other memory, from what a migration carries.
  init(copyOf other: inout Machine, _ options: BalloonOptions = BalloonOptions()) throws {
    let memory = try copy(other.guest.memory)
    var snapshot = Snapshot()
    other.transport.host.pause()
    try other.transport.host.save(into: &snapshot)
    try snapshot.add(other.guest.save())
    other.transport.host.resume()

    var arrived = try Snapshot(decoding: snapshot.encoded())
    transport = try Transport(BalloonDevice(options, reclaimer: MemoryReclaimer()), memory: memory)
    try transport.host.restore(from: &arrived)
    transport.host.resume()
    guest = try Guest(restoring: arrived.take(GuestState.self), in: memory, balloon: transport)
    try arrived.checkAllTaken()
  }

  mutating func setTarget(_ pageCount: UInt32) {
    transport.host.update { $0.setTarget(BalloonTarget(pageCount: pageCount)) }
  }

  /// Runs until the driver has nothing to do, at most so many steps.
  mutating func settle(steps: Int = 200) throws {
    for _ in 0..<steps {
      try guest.step()
      if try guest.balloon?.isBusy() == false { return }
    }
    Issue.record("the driver is still busy after \(steps) steps")
  }

  var resident: UInt64 { get throws { try guest.memory.residentByteCount() } }
}

@Suite("Guest and balloon") struct BalloonEndToEndTests {
  @Test("5.5.6: inflating takes the cache's pages and the host gets them; deflating gives them back")
  func inflateAndDeflate() throws {
    var machine = try Machine(workload: .pageCache)
    try machine.guest.run(steps: 100)
    let full = try machine.resident
    machine.guest.workload = .idle
    machine.setTarget(1500)
    try machine.settle()
    #expect(machine.transport.host.device.actualPageCount == 1500)
    #expect(try machine.guest.figures().balloonByteCount == 1500 * 4096)
    #expect(try machine.resident <= full - 1400 * 4096)
    #expect(try machine.guest.checkIntegrity().isIntact)
    machine.setTarget(100)
    try machine.settle()
    #expect(machine.transport.host.device.actualPageCount == 100)
    machine.guest.workload = .pageCache
    try machine.guest.run(steps: 100)
    #expect(try machine.guest.checkIntegrity().isIntact)
    #expect(try machine.guest.figures().cacheByteCount > 1500 * 4096)
  }

  @Test("5.5.6: without MUST_TELL_HOST pages are used before the device has answered", arguments: [false, true])
  func mustTellHost(isNegotiated: Bool) throws {
    var machine = try Machine(features: isNegotiated ? .all : BalloonDriver.Features.all.subtracting(.mustTellHost))
    machine.setTarget(300)
    try machine.settle()
    machine.transport.host.pause()
    machine.setTarget(0)
    try machine.guest.run(steps: 3)
    let waiting = try machine.guest.allocator.count(of: .deflating)
    #expect(waiting == (isNegotiated ? 256 : 0))
    machine.transport.host.resume()
    try machine.settle()
    #expect(try machine.guest.figures().balloonByteCount == 0)
    #expect(machine.transport.host.device.actualPageCount == 0)
  }

  @Test("5.5.2: queues are found by both numberings, whatever is negotiated", arguments: 0..<64 as Range<UInt64>)
  func everyFeatureSet(bits: UInt64) throws {
    let features = BalloonDriver.Features(rawValue: bits)
    for numbering in [BalloonDriver.Numbering.consecutive, .fixed] {
      var options = BalloonOptions()
      options.numbering = numbering == .fixed ? .fixed : .consecutive
      options.deflateOnOutOfMemory = true
      var machine = try Machine(options, features: features, numbering: numbering, pages: 512, poison: 0)
      machine.setTarget(150)
      try machine.settle()
      #expect(machine.transport.host.device.actualPageCount == 150)
      let reading = machine.transport.host.device.reading(of: .freeMemory)
      #expect((reading.value != nil) == features.contains(.statistics))
      machine.setTarget(0)
      try machine.settle()
      try machine.guest.run(steps: 70)
      let reports = machine.transport.host.device.counters.reportedBytes
      let canReport = features.isSuperset(of: [.reporting, .pagePoison])
      #expect((reports > 0) == canReport, "\(features) \(numbering)")
      if features.contains(.freePageHint) {
        _ = try machine.transport.host.update { (device) throws(BalloonError) in try device.startHinting() }
        try machine.guest.run(steps: 10)
        #expect(!machine.transport.host.update { $0.takeHints() }.ranges.isEmpty)
      }
      #expect(machine.transport.host.failure == nil)
      #expect(try machine.guest.checkIntegrity().isIntact)
    }
  }

  @Test("2.7: the balloon works over every kind of ring", arguments: 0..<8)
  func everyRing(bits: Int) throws {
    let ring = DriverQueue.Options(
      eventIndex: bits & 1 != 0, indirectDescriptors: bits & 2 != 0, inOrder: bits & 4 != 0)
    var machine = try Machine(ring: ring)
    for target: UInt32 in [1200, 30, 900, 0] {
      machine.setTarget(target)
      try machine.settle()
      #expect(machine.transport.host.device.actualPageCount == target)
    }
    try machine.guest.run(steps: 80)
    #expect(machine.transport.host.device.counters.reportedBytes > 0)
    #expect(machine.transport.host.failure == nil)
  }

  @Test("A guest moves at any moment of an inflation and goes on, there as here")
  func moveWhileInflating() throws {
    var random = SeededGenerator(for: "BalloonEndToEnd.moveWhileInflating")
    for _ in 0..<6 {
      var here = try Machine(workload: .dirtying)
      here.setTarget(1200)
      try here.guest.run(steps: Int.random(in: 1...9, using: &random))
      var there = try Machine(copyOf: &here)
      try here.settle()
      try there.settle()
      #expect(there.transport.host.device.actualPageCount == 1200)
      #expect(try digest(here.guest.memory) == digest(there.guest.memory))
      #expect(here.guest.save() == there.guest.save())
      #expect(try there.guest.checkIntegrity().isIntact)

      there.setTarget(10)
      try there.settle()
      let back = try Machine(copyOf: &there)
      #expect(try back.guest.checkIntegrity().isIntact)
      #expect(try back.guest.figures().balloonByteCount == 10 * 4096)
    }
  }

  @Test("5.5.6.3: statistics are the allocator's, when asked for again, and after a move")
  func statistics() throws {
    var machine = try Machine(workload: .pageCache)
    try machine.guest.run(steps: 10)
    func ask(_ machine: inout Machine) throws -> UInt64? {
      machine.transport.host.update { $0.requestStatistics() }
      machine.transport.host.wake()
      let free = try machine.guest.figures().freeByteCount
      try machine.guest.step()
      #expect(machine.transport.host.device.reading(of: .freeMemory).value == free)
      return machine.transport.host.device.reading(of: .diskCaches).value
    }
    let before = try #require(try ask(&machine))
    #expect(before > 0)
    try machine.guest.run(steps: 10)
    var moved = try Machine(copyOf: &machine)
    #expect(try #require(try ask(&moved)) > before)
    #expect(moved.transport.host.device.reading(of: .totalMemory).value == 2048 * 4096)
  }

  @Test("5.5.3: with DEFLATE_ON_OOM the guest takes pages back before it kills anything", arguments: [false, true])
  func deflateOnOOM(isNegotiated: Bool) throws {
    var options = BalloonOptions()
    options.deflateOnOutOfMemory = isNegotiated
    var machine = try Machine(options)
    machine.setTarget(1900)
    try machine.guest.run(steps: 20)
    let held = try machine.guest.figures().balloonByteCount
    machine.guest.workload = .dirtying
    try machine.guest.run(steps: 5)
    machine.guest.workload = .pressure
    try machine.guest.run(steps: 30)
    #expect(try (machine.guest.count(of: .oomKills) == 0) == isNegotiated)
    #expect(try (machine.guest.figures().balloonByteCount < held) == isNegotiated)
    #expect(try machine.guest.checkIntegrity().isIntact)
  }

  @Test("5.5.6.5: hinted pages are free ones, stay unused until DONE, and come back at once when memory is wanted")
  func hinting() throws {
    var machine = try Machine()
    let round = try machine.transport.host.update { (device) throws(BalloonError) in try device.startHinting() }
    try machine.guest.run(steps: 10)
    let hints = machine.transport.host.update { $0.takeHints() }
    #expect(hints.round == round)
    for range in hints.ranges {
      for offset in stride(from: 0, to: range.byteCount, by: 4096) {
        let page = UInt32((range.start.rawValue + offset) / 4096)
        #expect(try machine.guest.allocator.kind(of: page) == .hinted)
      }
    }
    let hinted = try machine.guest.allocator.count(of: .hinted)
    #expect(hinted * 4096 == hints.ranges.reduce(0) { $0 + $1.byteCount })
    #expect(hinted > 1500)

    machine.guest.workload = .pageCache
    try machine.guest.run(steps: 40)
    #expect(try machine.guest.allocator.count(of: .hinted) < hinted)
    #expect(try machine.guest.count(of: .oomKills) == 0)
    machine.transport.host.update { $0.finishHinting() }
    try machine.guest.run(steps: 4)
    #expect(try machine.guest.allocator.count(of: .hinted) == 0)
    #expect(try machine.guest.checkIntegrity().isIntact)
  }

  @Test(
    "5.5.6.6, 5.5.6.7: reported pages go to the host, unless they are poisoned",
    arguments: [nil, 0, 0x5A5A_5A5A] as [UInt32?])
  func reporting(poison: UInt32?) throws {
    var machine = try Machine(workload: .dirtying, poison: poison)
    try machine.guest.run(steps: 10)
    machine.guest.workload = .pageCache
    try machine.guest.run(steps: 60)
    machine.setTarget(1600)
    machine.guest.workload = .idle
    try machine.settle()
    machine.setTarget(0)
    try machine.settle()
    try machine.guest.run(steps: 100)
    let reported = try machine.guest.allocator.count(of: .reported)
    #expect(reported > 1000)
    let isPoisoned = (poison ?? 0) != 0
    #expect((machine.transport.host.device.counters.reportedBytes == 0) == isPoisoned)
    machine.guest.workload = .pageCache
    try machine.guest.run(steps: 100)
    #expect(try machine.guest.checkIntegrity().mismatch == nil)
  }

  @Test("2.1.2: a driver leaves a device alone that needs a reset, and the guest goes on")
  func needsReset() throws {
    var machine = try Machine(workload: .dirtying)
    machine.setTarget(300)
    try machine.settle()
    // An available index far ahead of the ring.
    let queue = try #require(machine.guest.balloon?.addresses(of: .inflate))
    try machine.guest.memory.publish(9999, at: queue.availableRing.offset(2))
    machine.transport.host.kick(0)
    #expect(machine.transport.host.failure != nil)
    machine.setTarget(500)
    try machine.guest.run(steps: 20)
    #expect(try machine.guest.balloon?.isBroken() == true)
    #expect(try machine.guest.figures().balloonByteCount == 300 * 4096)
    #expect(try machine.guest.checkIntegrity().isIntact)
  }

  @Test("3.1.1: a device that has not enough queues, or is gone, is no balloon")
  func refusals() throws {
    let memory = try GuestMemory(byteCount: 1 << 22)
    let transport = try Machine.Transport(
      BalloonDevice(reclaimer: MemoryReclaimer()), ringFeatures: [], memory: memory)
    #expect(throws: GuestError.featuresRefused(0x3B & ~0x10)) {
      _ = try Guest.boot(GuestConfiguration(seed: 1, diskPages: 8), in: memory, balloon: transport)
    }
    #expect(DeviceStatus(rawValue: transport.readStatus()).contains(.failed))

    var machine = try Machine()
    let state = machine.guest.save()
    #expect(throws: GuestError.transport(.gone)) { _ = try Guest(restoring: state, in: machine.guest.memory) }
  }

  @Test("A device on another thread serves the guest just as well")
  func otherThread() throws {
    let memory = try GuestMemory(byteCount: 8 << 20)
    let latch = InterruptLatch()
    let thread = try DeviceThread<BalloonDevice<MemoryReclaimer>>(name: "balloon") { _ in
      var host = DeviceHost(BalloonDevice(reclaimer: MemoryReclaimer())) { latch.insert($0) }
      try? host.attach(memory)
      return host
    }
    var guest = try Guest.boot(
      GuestConfiguration(seed: 3, diskPages: 32, workload: .pageCache), in: memory,
      balloon: ThreadTransport(thread, latch))
    try guest.run(steps: 50)
    _ = try thread.call { host in host.update { $0.setTarget(BalloonTarget(pageCount: 1000)) } }
    for _ in 0..<500 where try thread.call({ $0.device.actualPageCount }) != 1000 { try guest.step() }
    #expect(try thread.call { $0.device.actualPageCount } == 1000)
    #expect(try guest.checkIntegrity().isIntact)
    thread.stop()
    #expect(throws: GuestError.transport(.gone)) {
      guest.configurationChanged()
      try guest.step()
    }
  }
}
