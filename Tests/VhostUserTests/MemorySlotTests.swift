import GuestRAM
import LinuxIO
import Testing
import VhostUser

@Suite("VhostUser: memory regions one by one") struct MemorySlotTests {
  private static let extra: GuestDriver.Region = (1 << 40, 0x1000, 0x7d00_0000_0000, 0x70000)

  /// A front-end whose memory was added region by region, with one running ring.
  private func running(_ driver: GuestDriver) throws -> Frontend {
    let frontend = try Frontend()
    try frontend.negotiate()
    for region in [GuestDriver.ringRegion, GuestDriver.dataRegion] { try add(region, frontend, driver) }
    try driver.setUpRing(frontend)
    try frontend.send(Wire.setVringEnable, words(0, 1))
    try driver.offer([1])
    try driver.kickDevice(frontend)
    #expect(try driver.usedIndex() == 1)
    return frontend
  }

  private func add(_ region: GuestDriver.Region, _ frontend: Frontend, _ driver: GuestDriver) throws {
    try frontend.send(Wire.addMemReg, GuestDriver.region(region), descriptors: [driver.memory.number], flags: 9)
    #expect(try frontend.answer()?.payload == number(0))
  }

  @Test("there may be 509")
  func most() throws {
    let frontend = try Frontend()
    let driver = try GuestDriver()
    try frontend.negotiate()
    #expect(try frontend.ask(Wire.getMaxMemSlots) == number(509))
    for slot in 0..<509 {
      let start = UInt64(slot) << 20
      try add((start, 0x1000, 0x7000_0000_0000 + start, 0), frontend, driver)
    }
    try frontend.send(
      Wire.addMemReg, GuestDriver.region((1 << 50, 0x1000, 0, 0)), descriptors: [driver.memory.number])
    #expect(frontend.error == .wrongRegionCount(510, most: 509))
    #expect(try driver.memory.copyCount() == 0)
  }

  @Test("rings run on while regions come and go, and a stray descriptor is closed")
  func comeAndGo() throws {
    let driver = try GuestDriver()
    let frontend = try running(driver)
    let stray = try Witness()
    try add(Self.extra, frontend, driver)
    #expect(frontend.device.memory?.regions.count == 3)
    try driver.offer([2])
    try driver.kickDevice(frontend)
    try frontend.send(Wire.remMemReg, GuestDriver.region(Self.extra), descriptors: [stray.number])
    #expect(try stray.copyCount() == 0)
    #expect(frontend.device.memory?.regions.count == 2)
    try driver.offer([3])
    try driver.kickDevice(frontend)
    #expect(try driver.usedIndex() == 3)
    #expect(frontend.device.update { $0.startCount } == 1)
  }

  @Test("a region may be added again, as QEMU does for each queue pair, and stays until it was removed as often")
  func addedTwice() throws {
    let driver = try GuestDriver()
    let frontend = try running(driver)
    let copies = try driver.memory.copyCount()
    // Features come again too, and do not make it another driver.
    try frontend.send(Wire.setFeatures, number(Wire.version1 | Wire.protocolFeatures))
    for region in [GuestDriver.ringRegion, GuestDriver.dataRegion] { try add(region, frontend, driver) }
    #expect(try driver.memory.copyCount() == copies)
    #expect(frontend.device.memory?.regions.count == 2)
    try frontend.send(Wire.remMemReg, GuestDriver.region(GuestDriver.dataRegion))
    try driver.offer([2])
    try driver.kickDevice(frontend)
    #expect(try driver.answer(1, byteCount: 1) == [3])
    #expect(frontend.device.update { $0.startCount } == 1)
    for region in [GuestDriver.ringRegion, GuestDriver.dataRegion, GuestDriver.ringRegion] {
      #expect(frontend.device.memory != nil)
      try frontend.send(Wire.remMemReg, GuestDriver.region(region))
    }
    #expect(frontend.device.memory == nil)
    #expect(try driver.memory.copyCount() == 0)
    #expect(!frontend.isEnded)
  }

  @Test("a region that is added again has to be part of the same file")
  func otherFile() throws {
    let driver = try GuestDriver()
    let frontend = try running(driver)
    let other = try Witness(byteCount: 0x80000)
    try frontend.send(Wire.addMemReg, GuestDriver.region(GuestDriver.dataRegion), descriptors: [other.number])
    #expect(frontend.error == .otherFile(guestAddress: GuestDriver.dataRegion.guest))
    #expect(try other.copyCount() == 0)
  }

  @Test("a ring whose memory is taken away rests, and goes on when it is there again")
  func ringAway() throws {
    let driver = try GuestDriver()
    let frontend = try running(driver)
    try frontend.send(Wire.remMemReg, GuestDriver.region(GuestDriver.ringRegion))
    try driver.offer([2])
    try driver.kickDevice(frontend)
    #expect(try driver.usedIndex() == 1)
    try frontend.send(Wire.remMemReg, GuestDriver.region(GuestDriver.dataRegion))
    #expect(frontend.device.memory == nil)
    #expect(try driver.memory.copyCount() == 0)
    try add(GuestDriver.ringRegion, frontend, driver)
    // The ring is there and its buffers are not, which only its driver would notice.
    #expect(frontend.brokenCount == 1)
    #expect(!frontend.isEnded)
  }

  @Test("a ring whose memory is replaced goes on where it was")
  func ringReplaced() throws {
    let driver = try GuestDriver()
    let frontend = try running(driver)
    try frontend.send(Wire.remMemReg, GuestDriver.region(GuestDriver.ringRegion))
    try driver.offer([2])
    try driver.kickDevice(frontend)
    try add(GuestDriver.ringRegion, frontend, driver)
    #expect(try driver.usedIndex() == 2)
    #expect(try driver.answer(1, byteCount: 1) == [3])
  }

  @Test("regions that overlap, that are unknown, or that come before any end the connection")
  func refusals() throws {
    let driver = try GuestDriver()
    let overlapping = try running(driver)
    var region = GuestDriver.ringRegion
    region.size -= 0x1000
    try overlapping.send(Wire.addMemReg, GuestDriver.region(region), descriptors: [driver.memory.number])
    guard case .memory(.overlap(_, _)) = overlapping.error else { return #expect(Bool(false)) }
    let unknown = try running(GuestDriver())
    try unknown.send(Wire.remMemReg, GuestDriver.region(Self.extra))
    #expect(unknown.error == .noSuchRegion(guestAddress: 1 << 40, byteCount: 0x1000))
    let early = try Frontend()
    try early.negotiate()
    try early.send(Wire.remMemReg, GuestDriver.region(Self.extra))
    #expect(early.error == .noMemoryTable)
    #expect(try driver.memory.copyCount() == 0)
  }
}
