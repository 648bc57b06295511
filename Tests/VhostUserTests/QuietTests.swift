import LinuxIO
import Testing
import VhostUser
import VirtioCore

@Suite("VhostUser: quiet before change") struct QuietTests {
  /// A front-end whose device has two requests of ring 0 in flight.
  private final class Fixture {
    let frontend: Frontend
    let driver: GuestDriver

    init(on device: ServedDevice<EchoDevice> = ServedDevice(EchoDevice())) throws {
      frontend = try Frontend(device)
      driver = try GuestDriver()
      device.update { $0.isAsynchronous = true }
      try frontend.negotiate()
      try driver.setUp(frontend)
      try frontend.send(Wire.setVringEnable, words(0, 1))
      try driver.offer([1])
      try driver.offer([2])
      try driver.kickDevice(frontend)
      #expect(frontend.device.update { $0.requests.count } == 2)
    }
  }

  private static let changes: [(request: UInt32, payload: [UInt8], descriptorCount: Int)] = [
    (Wire.setFeatures, number(Wire.version1 | Wire.protocolFeatures), 0), (Wire.setMemTable, GuestDriver.table(), 2),
    (Wire.setVringNum, words(0, 4), 0), (Wire.setVringAddr, GuestDriver.addresses(ring: 0), 0),
    (Wire.setVringBase, words(0, 2), 0), (Wire.setVringEnable, words(0, 0), 0), (Wire.resetDevice, [], 0),
    (Wire.setStatus, number(0), 0),
  ]

  @Test("a change waits, unanswered, until all that is in flight has been given back", arguments: changes.indices)
  func wait(index: Int) throws {
    let change = Self.changes[index]
    let fixture = try Fixture()
    let descriptors = [Int32](repeating: fixture.driver.memory.number, count: change.descriptorCount)
    try fixture.frontend.send(change.request, change.payload, descriptors: descriptors, flags: 9)
    #expect(try fixture.frontend.answer() == nil)
    try fixture.frontend.finish(1)
    #expect(try fixture.frontend.answer() == nil)
    #expect(try fixture.driver.usedIndex() == 1)
    try fixture.frontend.finish(1)
    #expect(try fixture.frontend.answer()?.payload == number(0))
    #expect(try fixture.driver.usedIndex() == 2)
    #expect(try fixture.driver.answer(1, byteCount: 1) == [3])
    #expect(!fixture.frontend.isEnded)
  }

  @Test("GET_VRING_BASE tells the index behind everything that was taken")
  func base() throws {
    let fixture = try Fixture()
    try fixture.frontend.send(Wire.getVringBase, words(0, 0))
    #expect(try fixture.frontend.answer() == nil)
    try fixture.frontend.finish(2)
    #expect(try fixture.frontend.answer()?.payload == words(0, 2))
    #expect(try fixture.driver.usedIndex() == 2)
  }

  @Test("messages behind one that waits are read afterwards, in their order")
  func order() throws {
    let fixture = try Fixture()
    try fixture.frontend.send(Wire.getVringBase, words(0, 0))
    try fixture.frontend.send(Wire.getFeatures)
    try fixture.frontend.send(Wire.getVringBase, words(1, 0))
    #expect(try fixture.frontend.answer() == nil)
    try fixture.frontend.finish(2)
    #expect(try fixture.frontend.answer()?.request == Wire.getVringBase)
    #expect(try fixture.frontend.answer()?.request == Wire.getFeatures)
    #expect(try fixture.frontend.answer()?.payload == words(1, 0))
  }

  @Test("a kick while a message waits is served after it and not before")
  func kick() throws {
    let fixture = try Fixture()
    try fixture.frontend.send(Wire.setMemTable, GuestDriver.table(), descriptors: fixture.driver.memoryNumbers)
    try fixture.driver.offer([7])
    try fixture.driver.kickDevice(fixture.frontend)
    #expect(fixture.frontend.device.update { $0.requests.count } == 2)
    try fixture.frontend.finish(2)
    #expect(fixture.frontend.device.update { $0.requests.count } == 1)
    try fixture.frontend.finish(1)
    #expect(try fixture.driver.usedIndex() == 3)
  }

  @Test("a message about a ring without requests, and one that changes nothing, do not wait")
  func noWait() throws {
    let fixture = try Fixture()
    #expect(try fixture.frontend.ask(Wire.getVringBase, words(1, 0)) == words(1, 0))
    #expect(try fixture.frontend.acknowledged(Wire.setStatus, number(15)) == 0)
    #expect(try fixture.frontend.ask(Wire.getConfig, words(0, 1, 0) + [0]).count == 13)
    #expect(fixture.frontend.device.update { $0.requests.count } == 2)
  }

  @Test("a device that the driver breaks while a message waits is not waited for")
  func broken() throws {
    let fixture = try Fixture()
    try fixture.driver.offer([1])
    try fixture.driver.claimAvailable(0x7fff)
    try fixture.frontend.send(Wire.getVringBase, words(0, 0))
    try fixture.frontend.finish(1)
    #expect(fixture.frontend.brokenCount == 1)
    #expect(try fixture.frontend.answer()?.payload == words(0, 1))
  }

  /// Has the driver break its ring while somebody else is at both requests.
  private func breakElsewhere(_ fixture: Fixture) throws {
    fixture.frontend.device.update { $0.isElsewhere = true }
    try fixture.driver.claimAvailable(0x7fff)
    try fixture.driver.kickDevice(fixture.frontend)
    #expect(fixture.frontend.brokenCount == 1)
  }

  @Test("a device that is broken is waited for as long as somebody else is at its requests", arguments: changes.indices)
  func brokenElsewhere(index: Int) throws {
    let change = Self.changes[index]
    let fixture = try Fixture()
    try breakElsewhere(fixture)
    let descriptors = [Int32](repeating: fixture.driver.memory.number, count: change.descriptorCount)
    try fixture.frontend.send(change.request, change.payload, descriptors: descriptors, flags: 9)
    try fixture.frontend.finish(1)
    #expect(try fixture.frontend.answer() == nil)
    try fixture.frontend.finish(1)
    #expect(try fixture.frontend.answer()?.payload == number(0))
    #expect(!fixture.frontend.isEnded)
  }

  @Test("GET_VRING_BASE of a broken device waits for what somebody else is at")
  func baseElsewhere() throws {
    let fixture = try Fixture()
    try breakElsewhere(fixture)
    try fixture.frontend.send(Wire.getVringBase, words(0, 0))
    try fixture.frontend.finish(1)
    #expect(try fixture.frontend.answer() == nil)
    try fixture.frontend.finish(1)
    #expect(try fixture.frontend.answer()?.payload == words(0, 2))
  }

  @Test("a front-end that leaves a broken device is over when nobody is at its requests any more")
  func leaveElsewhere() throws {
    let device = ServedDevice(EchoDevice())
    let fixture = try Fixture(on: device)
    try breakElsewhere(fixture)
    try fixture.frontend.close()
    try fixture.frontend.finish(1)
    #expect(!fixture.frontend.isEnded)
    #expect(device.memory != nil)
    try fixture.frontend.finish(1)
    #expect(fixture.frontend.isEnded && fixture.frontend.error == nil)
    #expect(device.memory == nil)
  }

  @Test("a front-end that leaves is over when its requests are, and only then comes the next")
  func leave() throws {
    let device = ServedDevice(EchoDevice())
    let fixture = try Fixture(on: device)
    try fixture.frontend.close()
    #expect(!fixture.frontend.isEnded)
    #expect(device.memory != nil)
    try fixture.frontend.finish(2)
    #expect(fixture.frontend.isEnded && fixture.frontend.error == nil)
    #expect(device.memory == nil)
    #expect(try fixture.driver.usedIndex() == 2)
    _ = try Fixture(on: device)
  }

  @Test("a front-end that is turned away while its message waits is over when its requests are")
  func leaveWhileWaiting() throws {
    let fixture = try Fixture()
    try fixture.frontend.send(Wire.setVringNum, words(0, 3))
    try fixture.frontend.close()
    #expect(!fixture.frontend.isEnded)
    try fixture.frontend.finish(2)
    #expect(fixture.frontend.error == .illegalRingSize(3, ring: 0))
    #expect(try fixture.driver.memory.copyCount() == 0)
  }

  @Test("a session ended from this side finishes its requests, then tells")
  func end() throws {
    let fixture = try Fixture()
    var order: [String] = []
    fixture.frontend.whenEnded = { order.append("event") }
    fixture.frontend.session?.end { order.append("drained") }
    #expect(order == [])
    try fixture.frontend.send(Wire.getFeatures)
    try fixture.frontend.finish(1)
    #expect(try fixture.frontend.answer() == nil)
    try fixture.frontend.finish(1)
    #expect(order == ["event", "drained"])
    #expect(try fixture.driver.usedIndex() == 2)
    fixture.frontend.session?.end { order.append("again") }
    #expect(order.last == "again")
  }

  @Test("chains that an earlier back-end took and lost are not waited for")
  func lost() throws {
    let frontend = try Frontend()
    let driver = try GuestDriver()
    try frontend.negotiate(features: Wire.version1)
    for byte in 1...3 as ClosedRange<UInt8> { try driver.offer([byte]) }
    try driver.setUp(frontend, base: 2)
    try driver.kickDevice(frontend)
    #expect(try driver.usedIndex() == 1)
    #expect(try driver.answer(2, byteCount: 1) == [4])
    #expect(try frontend.ask(Wire.getVringBase, words(0, 0)) == words(0, 3))
    try frontend.close()
    #expect(frontend.isEnded && frontend.error == nil)
  }
}
