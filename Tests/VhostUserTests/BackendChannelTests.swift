import LinuxIO
import Testing
import VhostUser

@Suite("VhostUser: messages to the front-end") struct BackendChannelTests {
  /// A front-end with a running device and a channel.
  private final class Fixture {
    let frontend: Frontend
    let driver: GuestDriver
    let back: UnixSocket.Pair

    init(protocol bits: UInt64) throws {
      frontend = try Frontend()
      driver = try GuestDriver()
      back = try UnixSocket.pair()
      try frontend.negotiate(features: Wire.version1, protocol: bits)
      try frontend.send(Wire.setBackendReqFd, descriptors: [back.second.descriptor.rawValue])
      try driver.setUp(frontend)
      try driver.kickDevice(frontend)
    }

    func change(_ value: UInt8) throws {
      frontend.device.update { $0.config[3] = value }
      try frontend.pump()
    }

    func next() throws -> [UInt8]? {
      guard try back.first.waitUntilReadable(within: .zero) else { return nil }
      return try back.first.receive(exactly: 12)?.bytes
    }

    func acknowledge() throws {
      try back.first.send(words(2, 5, 8) + number(0))
      try frontend.pump()
    }
  }

  @Test("with REPLY_ACK there is one unanswered notice at a time, and changes in between become one")
  func acknowledgedChanges() throws {
    let fixture = try Fixture(protocol: Wire.all)
    for value in 50..<60 { try fixture.change(UInt8(value)) }
    #expect(try fixture.next() == words(2, 9, 0))
    #expect(try fixture.next() == nil)
    try fixture.acknowledge()
    #expect(try fixture.next() == words(2, 9, 0))
    try fixture.acknowledge()
    #expect(try fixture.next() == nil)
    try fixture.change(1)
    #expect(try fixture.next() == words(2, 9, 0))
  }

  @Test("without REPLY_ACK each change is a notice, and a front-end that reads none costs nothing")
  func plainChanges() throws {
    let fixture = try Fixture(protocol: Wire.backendReq | Wire.config)
    try fixture.change(1)
    #expect(try fixture.next() == words(2, 1, 0))
    for value in 0..<3000 { try fixture.change(UInt8(value % 250)) }
    #expect(try fixture.next() == words(2, 1, 0))
    #expect(!fixture.frontend.isEnded)
  }

  @Test("a channel that the front-end closes is let go of, and the session goes on")
  func closedChannel() throws {
    let fixture = try Fixture(protocol: Wire.all)
    fixture.back.first.shutDown()
    try fixture.frontend.pump()
    try fixture.change(1)
    #expect(try fixture.frontend.ask(Wire.getFeatures).count == 8)
    #expect(!fixture.frontend.isEnded)
  }

  @Test("an answer to nothing, of wrong size or of another number ends the connection")
  func strangeAnswers() throws {
    let unasked = try Fixture(protocol: Wire.all)
    try unasked.acknowledge()
    #expect(unasked.frontend.error == .wrongDirection(request: 2))
    for (bytes, error) in [
      (words(2, 5, 4, 0), VhostUserError.wrongPayloadSize(request: 2, byteCount: 4, expected: 8)),
      (words(3, 5, 8, 0, 0), .unsupported(request: 3)), (words(2, 1, 0), .wrongDirection(request: 2)),
    ] {
      let fixture = try Fixture(protocol: Wire.all)
      try fixture.change(1)
      try fixture.back.first.send(bytes)
      try fixture.frontend.pump()
      #expect(fixture.frontend.error == error)
    }
  }
}
