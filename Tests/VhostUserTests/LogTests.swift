import GuestRAM
import LinuxIO
import Testing
import VhostUser

@Suite("VhostUser: dirty log") struct LogTests {
  /// A front-end with one running ring, and a log for all of the guest's memory.
  private final class Fixture {
    static let features = Wire.version1 | Wire.protocolFeatures
    static let ringPage: UInt64 = 2
    static let dataPage = GuestDriver.dataRegion.guest / 4096
    static let logByteCount: UInt64 = (dataPage + 8) / 8

    let frontend: Frontend
    let driver: GuestDriver
    let log: Witness

    init() throws {
      frontend = try Frontend()
      driver = try GuestDriver()
      log = try Witness(byteCount: 0x40000)
      try frontend.negotiate()
      try driver.setUp(frontend)
      try frontend.send(Wire.setVringEnable, words(0, 1))
      try serveOne()
    }

    func serveOne() throws {
      try driver.offer([1])
      try driver.kickDevice(frontend)
    }

    func share(_ file: borrowing Witness, byteCount: UInt64 = logByteCount, offset: UInt64 = 0) throws {
      let payload = number(byteCount) + number(offset)
      #expect(try frontend.ask(Wire.setLogBase, payload, descriptors: [file.number]) == number(0))
    }

    func setLogging(_ isOn: Bool) throws {
      let answer = try frontend.acknowledged(Wire.setFeatures, number(Self.features | (isOn ? Wire.logAll : 0)))
      #expect(answer == 0)
    }

    /// The pages that are marked, which are none afterwards.
    func collect(_ file: borrowing Witness, offset: Int = 0) throws -> [UInt64] {
      let bytes = try file.file.readBytes(upTo: Int(Self.logByteCount), at: offset)
      try file.file.writeAll([UInt8](repeating: 0, count: bytes.count), at: offset)
      return bytes.indices.flatMap { index in
        (0..<8).filter { bytes[index] >> $0 & 1 != 0 }.map { UInt64(index * 8 + $0) }
      }
    }
  }

  @Test("what is written through descriptors is logged from LOG_ALL on, in a ring that runs on, and until it is off")
  func logging() throws {
    let fixture = try Fixture()
    try fixture.share(fixture.log)
    try fixture.serveOne()
    #expect(try fixture.collect(fixture.log) == [])
    try fixture.setLogging(true)
    try fixture.serveOne()
    #expect(try fixture.collect(fixture.log) == [Fixture.dataPage])
    #expect(try fixture.driver.usedIndex() == 3)
    try fixture.setLogging(false)
    try fixture.serveOne()
    #expect(try fixture.collect(fixture.log) == [])
    #expect(try fixture.driver.usedIndex() == 4)
    #expect(fixture.frontend.device.update { $0.startCount } == 1)
  }

  @Test("stores to a used ring are logged where SET_VRING_ADDR says, only while its flag says so")
  func usedRing() throws {
    let fixture = try Fixture()
    try fixture.share(fixture.log)
    try fixture.setLogging(true)
    try fixture.frontend.send(Wire.setVringAddr, GuestDriver.addresses(ring: 0, log: 0x9000))
    try fixture.serveOne()
    #expect(try fixture.collect(fixture.log) == [9, Fixture.dataPage])
    try fixture.frontend.send(Wire.setVringAddr, GuestDriver.addresses(ring: 0))
    try fixture.serveOne()
    #expect(try fixture.collect(fixture.log) == [Fixture.dataPage])
    #expect(try fixture.driver.usedIndex() == 3)
  }

  @Test("a used ring that is logged beyond the log is served all the same")
  func markBeyondLog() throws {
    let fixture = try Fixture()
    try fixture.share(fixture.log)
    try fixture.setLogging(true)
    try fixture.frontend.send(Wire.setVringAddr, GuestDriver.addresses(ring: 0, log: 1 << 60))
    try fixture.serveOne()
    #expect(try fixture.collect(fixture.log) == [Fixture.dataPage])
    #expect(fixture.frontend.device.memory?.dirtyLog?.missedCount ?? 0 > 0)
  }

  @Test("another log takes the place of the one before, at any offset of its file")
  func secondLog() throws {
    let fixture = try Fixture()
    try fixture.share(fixture.log)
    try fixture.setLogging(true)
    let bigger = try Witness(byteCount: 0x80000)
    try fixture.share(bigger, byteCount: 0x40000, offset: 0x1003)
    #expect(try fixture.log.copyCount() == 0)
    try fixture.serveOne()
    #expect(try fixture.collect(fixture.log) == [])
    #expect(try fixture.collect(bigger, offset: 0x1003) == [Fixture.dataPage])
    try fixture.frontend.close()
    #expect(try bigger.copyCount() == 0)
  }

  @Test("a new memory table is logged like the one before")
  func newTable() throws {
    let fixture = try Fixture()
    try fixture.share(fixture.log)
    try fixture.setLogging(true)
    try fixture.frontend.send(Wire.setMemTable, GuestDriver.table(), descriptors: fixture.driver.memoryNumbers)
    try fixture.serveOne()
    #expect(try fixture.collect(fixture.log) == [Fixture.dataPage])
  }

  @Test("a log that waits for requests in flight has what they write")
  func inFlight() throws {
    let fixture = try Fixture()
    fixture.frontend.device.update { $0.isAsynchronous = true }
    try fixture.share(fixture.log)
    try fixture.setLogging(true)
    try fixture.serveOne()
    try fixture.frontend.send(Wire.setFeatures, number(Fixture.features), flags: 9)
    #expect(try fixture.frontend.answer() == nil)
    try fixture.frontend.finish(1)
    #expect(try fixture.frontend.answer()?.payload == number(0))
    #expect(try fixture.collect(fixture.log) == [Fixture.dataPage])
  }

  @Test("a log that is too short, or not in its file, ends the connection")
  func badLogs() throws {
    let needed = Fixture.dataPage + 8
    let cases: [(UInt64, UInt64, VhostUserError)] = [
      (Fixture.logByteCount - 1, 0, .memory(.logTooShort(pages: needed - 8, needed: needed))),
      (0x40001, 0, .memory(.fileTooShort(needed: 0x40001, is: 0x40000))),
      (0x20001, 0x20000, .memory(.fileTooShort(needed: 0x40001, is: 0x40000))),
      (16, .max - 8, .memory(.fileTooShort(needed: .max, is: 0x40000))),
      (0, 0, .memory(.fileTooShort(needed: 0, is: 0x40000))),
    ]
    for (byteCount, offset, error) in cases {
      let fixture = try Fixture()
      try fixture.frontend.send(
        Wire.setLogBase, number(byteCount) + number(offset), descriptors: [fixture.log.number])
      #expect(fixture.frontend.error == error)
      #expect(try fixture.log.copyCount() == 0)
    }
  }

  @Test("SET_LOG_FD is taken, and closed")
  func logDescriptor() throws {
    let fixture = try Fixture()
    let witness = try Witness()
    try fixture.frontend.send(Wire.setLogFd, descriptors: [witness.number], flags: 9)
    #expect(try fixture.frontend.answer()?.payload == number(0))
    #expect(try witness.copyCount() == 0)
  }
}
