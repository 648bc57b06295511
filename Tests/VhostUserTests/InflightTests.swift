import GuestRAM
import LinuxIO
import Testing
import VhostUser
import VirtioCore
import Virtqueue

@Suite("VhostUser: in-flight region") struct InflightTests {
  private static let place = number(0) + number(0) + words(2 | 8 << 16, 0)
  private static let byteCount = 2 * 192

  /// A region as the back-end makes it.
  private struct Region: ~Copyable {
    let file: FileDescriptor
    let payload: [UInt8]

    static func make(by frontend: Frontend) throws -> Region {
      let payload = try frontend.ask(Wire.getInflightFd, InflightTests.place)
      #expect(frontend.descriptors.count == 1)
      guard let file = frontend.descriptors.takeFirst() else { throw LinuxError(call: "recvmsg", number: 0) }
      return Region(file: file, payload: payload)
    }
  }

  private func start(
    _ driver: GuestDriver, _ region: borrowing Region, base: UInt32 = 0
  ) throws -> Frontend {
    let frontend = try Frontend()
    frontend.device.update { $0.isAsynchronous = true }
    try frontend.negotiate()
    try frontend.send(Wire.setInflightFd, region.payload, descriptors: [region.file.rawValue])
    try driver.setUp(frontend, base: base)
    try frontend.send(Wire.setVringEnable, words(0, 1))
    return frontend
  }

  @Test("GET_INFLIGHT_FD answers with 24 bytes and a file of zeros that cannot shrink")
  func make() throws {
    let frontend = try Frontend()
    try frontend.negotiate()
    let region = try Region.make(by: frontend)
    #expect(region.payload == number(UInt64(Self.byteCount)) + number(0) + words(2 | 8 << 16, 0))
    #expect(try region.file.readBytes(upTo: 8192).allSatisfy { $0 == 0 })
    #expect(try region.file.status.byteCount == 4096)
    #expect(throws: LinuxError.self) { try region.file.truncate(toByteCount: 0) }
  }

  @Test("a back-end that comes after one that was killed serves what that left, without a kick, and then the rest")
  func killed() throws {
    let driver = try GuestDriver()
    let region = try Region.make(by: negotiated())
    do {
      let killed = try start(driver, region)
      for byte in 1...3 as ClosedRange<UInt8> { try driver.offer([byte]) }
      try driver.kickDevice(killed)
      try killed.finish(1)
      #expect(try driver.usedIndex() == 1)
    }
    try driver.offer([4])
    driver.kick.drain()
    // The front-end knows no better than the used index.
    let next = try start(driver, region, base: 1)
    #expect(next.device.update { $0.requests.map(\.bytes) } == [[2], [3], [4]])
    try next.finish(3)
    #expect(try driver.usedIndex() == 4)
    #expect(try (0..<4).map { try driver.answer($0, byteCount: 1) } == [[2], [3], [4], [5]])
    #expect(try next.ask(Wire.getVringBase, words(0, 0)) == words(0, 4))
  }

  private func negotiated() throws -> Frontend {
    let frontend = try Frontend()
    try frontend.negotiate()
    return frontend
  }

  @Test("a reset leaves nothing in flight for the next driver")
  func reset() throws {
    let driver = try GuestDriver()
    let region = try Region.make(by: negotiated())
    let frontend = try start(driver, region)
    try driver.offer([1])
    try driver.kickDevice(frontend)
    // A device that is broken never gives its chain back.
    try driver.claimAvailable(0x7fff)
    try driver.kickDevice(frontend)
    #expect(frontend.brokenCount == 1)
    #expect(try region.file.readBytes(upTo: 1, at: 16) == [1])
    try frontend.send(Wire.resetDevice)
    let next = try GuestDriver()
    try frontend.send(Wire.setFeatures, number(Wire.version1 | Wire.protocolFeatures))
    try next.setUp(frontend)
    try frontend.send(Wire.setVringEnable, words(0, 1))
    #expect(frontend.device.update { $0.requests.count } == 0)
    try next.offer([8])
    try next.kickDevice(frontend)
    #expect(frontend.device.update { $0.requests.map(\.bytes) } == [[8]])
  }

  @Test("a region that comes while a ring runs is used from then on")
  func later() throws {
    let driver = try GuestDriver()
    let frontend = try negotiated()
    let region = try Region.make(by: frontend)
    frontend.device.update { $0.isAsynchronous = true }
    try driver.setUp(frontend)
    try frontend.send(Wire.setVringEnable, words(0, 1))
    try driver.offer([1])
    try driver.kickDevice(frontend)
    try frontend.send(Wire.setInflightFd, region.payload, descriptors: [region.file.rawValue], flags: 9)
    #expect(try frontend.answer() == nil)
    try frontend.finish(1)
    #expect(try frontend.answer()?.payload == number(0))
    try driver.offer([2])
    try driver.kickDevice(frontend)
    #expect(try region.file.readBytes(upTo: 16, at: 0) == number(0) + words(1 | 8 << 16, 1 << 16))
    #expect(try region.file.readBytes(upTo: 1, at: 16 + 2 * 16) == [1])
  }

  @Test("regions for other queues than there are, too short or not in their file, end the connection")
  func refusals() throws {
    let file = try Witness(byteCount: 4096)
    for (count, size): (UInt32, UInt32) in [(0, 8), (3, 8), (2, 0), (2, 7), (2, 65_535)] {
      let error = VhostUserError.illegalInflightRegion(queueCount: UInt16(count), queueSize: UInt16(size))
      let payload = number(4096) + number(0) + words(count | size << 16, 0)
      let getting = try negotiated()
      try getting.send(Wire.getInflightFd, payload)
      #expect(getting.error == error)
      let setting = try negotiated()
      try setting.send(Wire.setInflightFd, payload, descriptors: [file.number])
      #expect(setting.error == error)
    }
    let cases: [(UInt64, UInt64, VhostUserError)] = [
      (383, 0, .inflightRegionTooShort(byteCount: 383, needed: 384)),
      (4097, 0, .memory(.fileTooShort(needed: 4097, is: 4096))),
      (384, .max, .memory(.fileTooShort(needed: .max, is: 4096))),
    ]
    for (byteCount, offset, error) in cases {
      let frontend = try negotiated()
      try frontend.send(
        Wire.setInflightFd, number(byteCount) + number(offset) + words(2 | 8 << 16, 0), descriptors: [file.number])
      #expect(frontend.error == error)
    }
    #expect(try file.copyCount() == 0)
  }

  @Test("a ring longer than its area, as firmware may make it, is served without, and the area is left alone")
  func tooSmall() throws {
    let driver = try GuestDriver()
    let frontend = try negotiated()
    let payload = try frontend.ask(Wire.getInflightFd, number(0) + number(0) + words(2 | 4 << 16, 0))
    guard let file = frontend.descriptors.takeFirst() else { throw LinuxError(call: "recvmsg", number: 0) }
    let region = Region(file: file, payload: payload)
    let next = try start(driver, region)
    try driver.offer([1])
    try driver.kickDevice(next)
    try next.finish(1)
    #expect(try driver.answer(0, byteCount: 1) == [2])
    #expect(next.untrackedRings == [0])
    #expect(try region.file.readBytes(upTo: 4096).allSatisfy { $0 == 0 })
  }

  @Test("a region that says what cannot be ends the connection when its ring starts")
  func nonsense() throws {
    let driver = try GuestDriver()
    let region = try Region.make(by: negotiated())
    try region.file.writeAll([3], at: 8)
    let frontend = try start(driver, region)
    #expect(frontend.error == .host(.virtqueue(.inflightAreaUnknown(features: 0, version: 3))))
  }
}
