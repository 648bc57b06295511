import LinuxIO
import Testing
import VhostUser
import VirtioCore

/// QEMU has a front-end for each pair of queues of a network card, all on one connection: what concerns the whole device
/// is sent once for each of them. A ring of the echo device stands for a pair.
@Suite("VhostUser: features for each queue pair, and other drivers with the same") struct QueuePairTests {
  private static let features = Wire.version1 | Wire.protocolFeatures

  private func setUpTwo(_ frontend: Frontend, _ drivers: [GuestDriver], bases: [UInt32] = [0, 0]) throws {
    try frontend.send(Wire.setMemTable, GuestDriver.table(), descriptors: drivers[0].memoryNumbers)
    for (ring, base) in zip(UInt32(0)..., bases) {
      try frontend.send(Wire.setFeatures, number(Self.features))
      try drivers[Int(ring)].setUpRing(frontend, ring: ring, base: base)
    }
    for ring in 0..<UInt32(2) { try frontend.send(Wire.setVringEnable, words(ring, 1)) }
  }

  /// Two rings of one driver, in one memory. Each is kicked at once: QEMU signals a kick with the descriptor itself.
  private func drivers() throws -> [GuestDriver] {
    let first = try GuestDriver()
    let second = try GuestDriver(sharing: first)
    for driver in [first, second] { driver.kick.signal() }
    return [first, second]
  }

  private func checkServes(_ frontend: Frontend, _ drivers: [GuestDriver], answered: Int = 0) throws {
    for ring in 0..<2 {
      try drivers[ring].offer([UInt8(ring)], ring: UInt32(ring))
      try drivers[ring].kickDevice(frontend)
      #expect(try drivers[ring].usedIndex(ring: ring) == answered + 1)
    }
    #expect(!frontend.isEnded)
  }

  private func counts(_ frontend: Frontend) -> [Int] {
    frontend.device.update { [$0.startCount, $0.resetCount] }
  }

  @Test("SET_FEATURES with the same bits, between rings that run and rings to come, changes nothing")
  func pairAfterPair() throws {
    let frontend = try Frontend()
    let drivers = try drivers()
    try frontend.negotiate()
    try frontend.send(Wire.setVringEnable, words(0, 1))
    let resets = counts(frontend)[1]
    try setUpTwo(frontend, drivers)
    try checkServes(frontend, drivers)
    #expect(counts(frontend) == [1, resets])
  }

  @Test("the same after a stop: rings that were asked for their bases may be set up anew")
  func stopAndGoOn() throws {
    let frontend = try Frontend()
    let drivers = try drivers()
    try frontend.negotiate()
    try setUpTwo(frontend, drivers)
    try checkServes(frontend, drivers)
    let before = counts(frontend)
    // Status 0 comes between the pairs.
    #expect(try frontend.ask(Wire.getVringBase, words(0, 0)) == words(0, 1))
    try frontend.send(Wire.setStatus, number(0))
    #expect(try frontend.ask(Wire.getVringBase, words(1, 0)) == words(1, 1))
    for driver in drivers { driver.kick.signal() }
    try setUpTwo(frontend, drivers, bases: [1, 1])
    try checkServes(frontend, drivers, answered: 1)
    #expect(counts(frontend) == before)
  }

  @Test("a log that each pair begins and ends by itself leaves the rings running", arguments: [true, false])
  func logging(isOn: Bool) throws {
    let frontend = try Frontend()
    let drivers = try drivers()
    let log = try Witness(byteCount: 0x40000)
    try frontend.negotiate()
    try setUpTwo(frontend, drivers)
    try checkServes(frontend, drivers)
    let before = counts(frontend)
    for bit in isOn ? [Wire.logAll] : [Wire.logAll, 0] {
      for ring in 0..<UInt32(2) {
        _ = try frontend.ask(Wire.setLogBase, number(0x30000) + number(0), descriptors: [log.number])
        try frontend.send(Wire.setFeatures, number(Self.features | bit))
        let addresses = GuestDriver.addresses(ring: ring, log: bit == 0 ? nil : 0x9000)
        try frontend.send(Wire.setVringAddr, addresses)
      }
    }
    try checkServes(frontend, drivers, answered: 1)
    #expect(counts(frontend) == before)
  }

  /// User-Mode Linux says nothing when a driver goes.
  @Test(
    "a ring that is set up anew while it is started, after the same features, belongs to another driver",
    arguments: [0, 1])
  func successor(firstKicked: Int) throws {
    let frontend = try Frontend()
    let old = try GuestDriver()
    try frontend.negotiate(features: Wire.version1)
    try old.setUp(frontend)
    try old.setUpRing(frontend, ring: 1)
    try old.offer([1, 2, 3], ring: UInt32(firstKicked))
    try old.kickDevice(frontend)
    // Whatever has become of its memory is not looked at any more, not even in a new table.
    try old.fillRings(with: 0x5a)
    let before = counts(frontend)

    let new = try GuestDriver(sharing: old)
    try frontend.send(Wire.setFeatures, number(Wire.version1))
    #expect(counts(frontend) == before)
    try frontend.send(Wire.setMemTable, GuestDriver.table(), descriptors: new.memoryNumbers)
    #expect(counts(frontend) == [before[0], before[1] + 1])
    #expect(try old.usedIndex() == 0x5a5a)
    try new.fillRings(with: 0)
    for ring in 0..<UInt32(2) { try new.setUpRing(frontend, ring: ring) }
    try new.offer([7])
    try new.kickDevice(frontend)
    #expect(try new.answer(0, byteCount: 1) == [8])
    #expect(counts(frontend) == [before[0] + 1, before[1] + 1])
    #expect(frontend.device.update { $0.state.echoed } == 1)
    #expect(frontend.device.update { $0.features.low } == Wire.version1)
  }

  @Test("what another driver writes before its first ring is written to a device that has forgotten the one before")
  func successorWrites() throws {
    let frontend = try Frontend()
    let old = try GuestDriver()
    try frontend.negotiate(features: Wire.version1)
    try old.setUp(frontend)
    try old.offer([1])
    try old.kickDevice(frontend)
    let before = counts(frontend)
    try frontend.send(Wire.setFeatures, number(Wire.version1))
    try frontend.send(Wire.setConfig, words(6, 1, 0) + [77])
    #expect(counts(frontend) == [before[0], before[1] + 1])
    let new = try GuestDriver()
    try new.setUp(frontend)
    try new.offer([7])
    try new.kickDevice(frontend)
    #expect(try new.answer(0, byteCount: 1) == [8])
    #expect(counts(frontend) == [before[0] + 1, before[1] + 1])
    #expect(frontend.device.update { $0.config[6] } == 77)
  }

  @Test("a ring set up anew without a new table is enough to know another driver by", arguments: [0, 1])
  func successorInTheSameTable(firstSetUp: UInt32) throws {
    let frontend = try Frontend()
    let old = try GuestDriver()
    try frontend.negotiate(features: Wire.version1)
    try old.setUp(frontend)
    try old.setUpRing(frontend, ring: 1)
    try old.offer([1, 2, 3])
    try old.kickDevice(frontend)
    try old.fillRings(with: 0)
    let new = try GuestDriver(sharing: old)
    try frontend.send(Wire.setFeatures, number(Wire.version1))
    for ring in [firstSetUp, 1 - firstSetUp] { try new.setUpRing(frontend, ring: ring) }
    try new.offer([7])
    try new.kickDevice(frontend)
    #expect(try new.answer(0, byteCount: 1) == [8])
    #expect(frontend.device.update { $0.state.echoed } == 1)
  }

  @Test("another driver waits until the device has finished with the one before")
  func successorWaits() throws {
    let frontend = try Frontend()
    let old = try GuestDriver()
    frontend.device.update { $0.isAsynchronous = true }
    try frontend.negotiate(features: Wire.version1)
    try old.setUp(frontend)
    try old.offer([1])
    try old.kickDevice(frontend)
    try frontend.send(Wire.setFeatures, number(Wire.version1))
    let new = try GuestDriver()
    try new.setUp(frontend)
    try new.offer([7])
    new.kick.signal()
    try frontend.finish(1)
    #expect(try old.usedIndex() == 1)
    try frontend.finish(1)
    #expect(try new.answer(0, byteCount: 1) == [8])
    #expect(!frontend.isEnded)
  }

  @Test("other features mean another driver at once")
  func otherFeatures() throws {
    let frontend = try Frontend()
    let driver = try GuestDriver()
    try frontend.negotiate(features: Wire.version1)
    try driver.setUp(frontend)
    try driver.offer([1])
    try driver.kickDevice(frontend)
    let before = counts(frontend)
    try frontend.send(Wire.setFeatures, number(Wire.version1 | 0b1))
    #expect(counts(frontend)[1] > before[1])
    #expect(frontend.device.update { $0.state.echoed } == 0)
  }
}
