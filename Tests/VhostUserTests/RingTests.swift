import LinuxIO
import Testing
import VhostUser
import VirtioCore

@Suite("VhostUser: memory and rings") struct RingTests {
  @Test("a kick starts an enabled ring: chains are answered across regions and offsets, and the driver is called")
  func serve() throws {
    let frontend = try Frontend()
    let driver = try GuestDriver()
    try frontend.negotiate()
    try driver.setUp(frontend)
    #expect(try frontend.acknowledged(Wire.setVringEnable, words(0, 1)) == 0)
    try driver.offer([1, 2, 3])
    #expect(frontend.device.update { $0.startCount } == 0)
    try driver.kickDevice(frontend)
    #expect(try driver.usedIndex() == 1)
    #expect(try driver.answer(0, byteCount: 3) == [2, 3, 4])
    #expect(try driver.calls() > 0)
    #expect(frontend.device.update { $0.startCount } == 1)
    try driver.offer([9])
    try driver.offer([8])
    try driver.kickDevice(frontend)
    #expect(try driver.usedIndex() == 3)
    #expect(try driver.answer(2, byteCount: 1) == [9])
  }

  @Test("a ring starts with a kick, not with SET_VRING_KICK")
  func notBeforeKick() throws {
    let frontend = try Frontend()
    let driver = try GuestDriver()
    try frontend.negotiate()
    try driver.offer([1])
    try driver.setUp(frontend)
    try frontend.send(Wire.setVringEnable, words(0, 1))
    #expect(try driver.usedIndex() == 0)
    try driver.kickDevice(frontend)
    #expect(try driver.usedIndex() == 1)
  }

  @Test("a ring that is started but disabled is not served until it is enabled")
  func enableLater() throws {
    let frontend = try Frontend()
    let driver = try GuestDriver()
    try frontend.negotiate()
    try driver.setUp(frontend)
    try driver.offer([1])
    try driver.kickDevice(frontend)
    #expect(try driver.usedIndex() == 0)
    try frontend.send(Wire.setVringEnable, words(0, 1))
    #expect(try driver.usedIndex() == 1)
    try frontend.send(Wire.setVringEnable, words(0, 0))
    try driver.offer([1])
    try driver.kickDevice(frontend)
    #expect(try driver.usedIndex() == 1)
  }

  @Test(
    "a ring that is started but disabled gives back unread what its device drops, and is not looked at without a kick")
  func discard() throws {
    let frontend = try Frontend()
    let driver = try GuestDriver()
    frontend.device.update { $0.discarding = [0] }
    try frontend.negotiate()
    try driver.setUp(frontend)
    try driver.offer([1])
    #expect(try driver.usedIndex() == 0)
    try driver.kickDevice(frontend)
    #expect(try driver.usedIndex() == 1)
    #expect(try driver.answer(0, byteCount: 1) == [0])
    #expect(try driver.calls() > 0)
    #expect(frontend.device.update { $0.startCount } == 0)

    try frontend.send(Wire.setVringEnable, words(0, 1))
    try driver.offer([7])
    try driver.kickDevice(frontend)
    #expect(try driver.answer(1, byteCount: 1) == [8])

    // What no kick was asked for is dropped with the message; what comes later waits for its kick.
    try driver.offer([3])
    try frontend.send(Wire.setVringEnable, words(0, 0))
    #expect(try driver.usedIndex() == 3)
    #expect(try driver.answer(2, byteCount: 1) == [0])
    try driver.offer([4])
    try frontend.send(Wire.setOwner)
    frontend.device.wake()
    #expect(try driver.usedIndex() == 3)
    #expect(try frontend.ask(Wire.getVringBase, words(0, 0)) == words(0, 3))
    #expect(frontend.device.update { [$0.startCount, Int($0.state.echoed)] } == [1, 1])
  }

  @Test("a disabled ring that is broken breaks the device, and the connection lives on")
  func discardBroken() throws {
    let frontend = try Frontend()
    let driver = try GuestDriver()
    frontend.device.update { $0.discarding = [0] }
    try frontend.negotiate()
    try driver.setUp(frontend)
    try driver.claimAvailable(0x7fff)
    try driver.kickDevice(frontend)
    #expect(frontend.brokenCount == 1)
    #expect(try frontend.ask(Wire.getStatus).number & 64 != 0)
  }

  @Test("SET_FEATURES without bit 30 enables all rings, also when it comes second")
  func featuresTwice() throws {
    let frontend = try Frontend()
    let driver = try GuestDriver()
    try frontend.negotiate(features: Wire.version1 | Wire.protocolFeatures | 0b11)
    try frontend.send(Wire.setFeatures, number(Wire.version1 | 0b01))
    try driver.setUp(frontend, ring: 1)
    try driver.offer([5], ring: 1)
    try driver.kickDevice(frontend)
    #expect(try driver.usedIndex(ring: 1) == 1)
    #expect(frontend.device.update { $0.features.low } == Wire.version1 | 0b01)
  }

  @Test("a kick that comes before the ring is complete is kept")
  func earlyKick() throws {
    let frontend = try Frontend()
    let driver = try GuestDriver()
    try frontend.negotiate(features: Wire.version1)
    try frontend.send(Wire.setVringKick, number(0), descriptors: [driver.kickNumber])
    try driver.offer([1])
    try driver.kickDevice(frontend)
    #expect(!frontend.isEnded)
    try frontend.send(Wire.setMemTable, GuestDriver.table(), descriptors: [driver.memory.number, driver.memory.number])
    try frontend.send(Wire.setVringNum, words(0, GuestDriver.size))
    #expect(try driver.usedIndex() == 0)
    try frontend.send(Wire.setVringAddr, GuestDriver.addresses(ring: 0))
    #expect(try driver.usedIndex() == 1)
  }

  @Test("GET_VRING_BASE stops the ring and tells where it stopped; set up again, it goes on from there")
  func stopAndContinue() throws {
    let frontend = try Frontend()
    let driver = try GuestDriver()
    try frontend.negotiate(features: Wire.version1)
    try driver.setUp(frontend)
    try driver.offer([1])
    try driver.offer([2])
    try driver.kickDevice(frontend)
    #expect(try frontend.ask(Wire.getVringBase, words(0, 0)) == words(0, 2))
    try driver.offer([3])
    try driver.kickDevice(frontend)
    #expect(try driver.usedIndex() == 2)
    try driver.setUp(frontend, base: 2)
    try driver.kickDevice(frontend)
    #expect(try driver.usedIndex() == 3)
    #expect(try driver.answer(2, byteCount: 1) == [4])
  }

  @Test("a ring that never ran stops where it would have started")
  func stopUnstarted() throws {
    let frontend = try Frontend()
    try frontend.negotiate()
    try frontend.send(Wire.setVringBase, words(1, 700))
    #expect(try frontend.ask(Wire.getVringBase, words(1, 0)) == words(1, 700))
  }

  @Test("a new memory table leaves running rings where they are, and unmaps the one before")
  func newTable() throws {
    let frontend = try Frontend()
    let driver = try GuestDriver()
    try frontend.negotiate(features: Wire.version1)
    try driver.setUp(frontend)
    try driver.offer([1])
    try driver.kickDevice(frontend)
    let copies = try driver.memory.copyCount()
    try frontend.send(Wire.setMemTable, GuestDriver.table(), descriptors: [driver.memory.number, driver.memory.number])
    #expect(try driver.memory.copyCount() == copies)
    try driver.offer([2])
    try driver.kickDevice(frontend)
    #expect(try driver.usedIndex() == 2)
    #expect(!frontend.isEnded)
  }

  /// As User-Mode Linux does when its module is removed and loaded again; without bit 30 it does not even disable.
  @Test(
    "a driver that goes without a word and comes back starts anew, whatever became of its rings",
    arguments: [true, false])
  func driverComesBack(enables: Bool) throws {
    let frontend = try Frontend()
    let first = try GuestDriver()
    let features = Wire.version1 | (enables ? Wire.protocolFeatures : 0)
    try frontend.negotiate(features: features)
    try first.setUp(frontend)
    if enables { try frontend.send(Wire.setVringEnable, words(0, 1)) }
    try first.offer([1])
    try first.kickDevice(frontend)
    if enables { try frontend.send(Wire.setVringEnable, words(0, 0)) }
    try first.fillRings(with: 0x5a)
    if enables { frontend.device.wake() }
    #expect(try first.usedIndex() == 0x5a5a)

    let second = try GuestDriver()
    try frontend.send(Wire.setFeatures, number(features))
    try second.setUp(frontend)
    if enables { try frontend.send(Wire.setVringEnable, words(0, 1)) }
    #expect(try second.usedIndex() == 0)
    try second.offer([7])
    try second.kickDevice(frontend)
    #expect(try second.usedIndex() == 1)
    #expect(try second.answer(0, byteCount: 1) == [8])
  }

  @Test("RESET_DEVICE stops and disables all rings and resets the device")
  func resetDevice() throws {
    let frontend = try Frontend()
    let driver = try GuestDriver()
    try frontend.negotiate(features: Wire.version1)
    try driver.setUp(frontend)
    try driver.offer([1])
    try driver.kickDevice(frontend)
    try frontend.send(Wire.resetDevice)
    #expect(frontend.device.update { $0.state.echoed } == 0)
    try driver.offer([2])
    try driver.kickDevice(frontend)
    #expect(try driver.usedIndex() == 1)
    #expect(!frontend.isEnded)
  }

  @Test("INBAND_NOTIFICATIONS: kicks and calls travel as messages")
  func inband() throws {
    let frontend = try Frontend(offering: .supported)
    let driver = try GuestDriver()
    let back = try UnixSocket.pair()
    try frontend.negotiate(protocol: Wire.all | Wire.inband)
    try frontend.send(Wire.setBackendReqFd, descriptors: [back.second.descriptor.rawValue])
    try driver.setUp(frontend, ring: 1)
    try frontend.send(Wire.setVringKick, number(1 | Wire.noDescriptor))
    try frontend.send(Wire.setVringCall, number(1 | Wire.noDescriptor))
    try frontend.send(Wire.setVringEnable, words(1, 1))
    try driver.offer([1], ring: 1)
    #expect(try frontend.acknowledged(Wire.vringKick, words(1, 0)) == 0)
    #expect(try driver.usedIndex(ring: 1) == 1)
    #expect(try back.first.receive(exactly: 20, within: .zero)?.bytes == words(4, 1, 8, 1, 0))
  }

  @Test("a broken ring signals the error descriptor, shows DEVICE_NEEDS_RESET, and the connection lives on")
  func brokenRing() throws {
    let frontend = try Frontend()
    let driver = try GuestDriver()
    let error = try Eventfd()
    try frontend.negotiate()
    try driver.setUp(frontend)
    try frontend.send(Wire.setVringErr, number(0), descriptors: [error.descriptor.rawValue])
    try frontend.send(Wire.setVringEnable, words(0, 1))
    try driver.memory.file.writeAll([0xff, 0xff], at: GuestDriver.ringRegion.offset + 0x1000 + 2)
    try driver.kickDevice(frontend)
    #expect(error.drain() == 1)
    #expect(frontend.brokenCount == 1)
    #expect(try frontend.ask(Wire.getStatus).number & 64 != 0)
    try frontend.send(Wire.setStatus, number(0))
    #expect(try frontend.ask(Wire.getStatus).number == 0)
  }

  @Test(
    "the end of a session closes what came with its messages",
    arguments: [Wire.setVringKick, Wire.setVringCall, Wire.setVringErr, Wire.setBackendReqFd])
  func everythingIsClosed(request: UInt32) throws {
    let frontend = try Frontend()
    try frontend.negotiate()
    let near: UnixSocket
    do {
      let pair = try UnixSocket.pair()
      near = UnixSocket(owning: try pair.first.descriptor.duplicate())
      let payload = request == Wire.setBackendReqFd ? [] : number(0)
      try frontend.send(request, payload, descriptors: [pair.second.descriptor.rawValue])
    }
    #expect(try !near.waitUntilReadable(within: .zero))
    try frontend.close()
    // The end of the stream shows that nobody holds the other end any more.
    #expect(try near.receive(exactly: 1, within: .zero) == nil)
  }

  @Test("a driver that never pauses does not keep the loop for itself")
  func endlessKick() throws {
    let frontend = try Frontend()
    let driver = try GuestDriver()
    try frontend.negotiate(features: Wire.version1)
    try driver.setUp(frontend)
    for _ in 0..<100 {
      try driver.offer([1])
      try driver.kickDevice(frontend)
    }
    #expect(try driver.usedIndex() == 100)
    #expect(try frontend.ask(Wire.getVringBase, words(0, 0)) == words(0, 100))
  }
}
