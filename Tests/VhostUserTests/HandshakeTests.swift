import Testing
import VhostUser
import VirtioCore

@Suite("VhostUser: features, configuration, status") struct HandshakeTests {
  @Test("features are the device's and those of rings, with the protocol's own bit")
  func features() throws {
    let frontend = try Frontend()
    let expected = 0b11 | Wire.logAll | Wire.version1 | Wire.indirect | Wire.eventIndex | Wire.protocolFeatures
    #expect(try frontend.ask(Wire.getFeatures).number == expected)
    #expect(try frontend.ask(Wire.getProtocolFeatures).number == Wire.all)
    try frontend.negotiate()
    #expect(try frontend.ask(Wire.getQueueNum).number == 2)
    #expect(!frontend.isEnded)
  }

  @Test("in-band notifications are offered only when asked for, and nothing unknown ever is")
  func offering() throws {
    let frontend = try Frontend(offering: ProtocolFeatures(rawValue: .max))
    #expect(try frontend.ask(Wire.getProtocolFeatures).number == Wire.all | Wire.inband)
  }

  @Test("REPLY_ACK: a message without answer is acknowledged with 0, one with an answer is answered once")
  func acknowledgements() throws {
    let frontend = try Frontend()
    #expect(try frontend.acknowledged(Wire.setOwner) == 0)
    #expect(try frontend.ask(Wire.getFeatures, flags: 9).count == 8)
    #expect(try frontend.answer() == nil)
  }

  @Test("what is not supported is refused with a number other than 0", arguments: [19, 23, 141] as [UInt32])
  func refusal(request: UInt32) throws {
    let frontend = try Frontend()
    #expect(try frontend.acknowledged(request, number(1)) != 0)
    #expect(try frontend.acknowledged(Wire.setOwner) == 0)
  }

  @Test("what is not supported ends the connection when it cannot be refused")
  func silentRefusal() throws {
    for (request, flags) in [(Wire.sendRarp, 1), (Wire.getSharedObject, 9), (UInt32(99), 1)] {
      let frontend = try Frontend()
      try frontend.send(request, number(1), flags: UInt32(flags))
      #expect(frontend.error == .unsupported(request: request))
    }
  }

  @Test("messages of a protocol feature are refused before it is negotiated", arguments: [17, 34, 39, 21] as [UInt32])
  func needsFeature(request: UInt32) throws {
    let frontend = try Frontend()
    try frontend.send(Wire.setProtocolFeatures, number(Wire.replyAck))
    let witness = try Witness()
    let descriptors = request == Wire.setBackendReqFd ? [witness.number] : []
    try frontend.send(request, [], descriptors: descriptors)
    #expect(frontend.error == .unsupported(request: request))
    #expect(try witness.copyCount() == 0)
  }

  @Test("features that were not offered end the connection")
  func strangeFeatures() throws {
    let first = try Frontend()
    try first.send(Wire.setFeatures, number(Wire.version1 | 1 << 27))
    #expect(first.error == .featuresNotOffered(Wire.version1 | 1 << 27))
    let second = try Frontend()
    try second.send(Wire.setProtocolFeatures, number(Wire.replyAck | Wire.inband))
    #expect(second.error == .protocolFeaturesNotOffered(Wire.inband))
  }

  @Test("GET_CONFIG answers exactly as many bytes as were asked for, with zeros beyond the end")
  func readConfig() throws {
    let frontend = try Frontend()
    try frontend.negotiate()
    let zeros = [UInt8](repeating: 0, count: 8)
    #expect(try frontend.ask(Wire.getConfig, words(4, 8, 0) + zeros) == words(4, 8, 0) + Array(4..<12))
    #expect(
      try frontend.ask(Wire.getConfig, words(12, 8, 0) + zeros) == words(12, 8, 0) + [12, 13, 14, 15, 0, 0, 0, 0])
    #expect(try frontend.ask(Wire.getConfig, words(0, 0, 1)) == words(0, 0, 1))
    #expect(try frontend.ask(Wire.getConfig, words(.max, 4, 0) + words(0)) == words(.max, 4, 0) + words(0))
  }

  @Test("SET_CONFIG writes exactly its bytes; beyond the end it ends the connection")
  func writeConfig() throws {
    let frontend = try Frontend()
    try frontend.negotiate()
    #expect(try frontend.acknowledged(Wire.setConfig, words(6, 2, 0) + [77, 78]) == 0)
    let config = frontend.device.update { $0.config }
    #expect(config == [0, 1, 2, 3, 4, 5, 77, 78, 8, 9, 10, 11, 12, 13, 14, 15])
    try frontend.send(Wire.setConfig, words(15, 2, 0) + [1, 2])
    #expect(frontend.error == .host(.configOutOfRange(offset: 15, byteCount: 2, size: 16)))
  }

  @Test("STATUS: what is written is read back, and 0 resets the device")
  func status() throws {
    let frontend = try Frontend()
    try frontend.negotiate()
    let resets = frontend.device.update { $0.resetCount }
    try frontend.send(Wire.setStatus, number(0xf))
    #expect(try frontend.ask(Wire.getStatus).number == 0xf)
    #expect(frontend.device.update { $0.resetCount } == resets)
    try frontend.send(Wire.setStatus, number(0))
    #expect(try frontend.ask(Wire.getStatus).number == 0)
    #expect(frontend.device.update { $0.resetCount } == resets + 1)
    try frontend.send(Wire.setStatus, number(0x100))
    #expect(frontend.error == .illegalStatus(0x100))
  }

  @Test("RARP and MTU are for a device that takes them, and for no other")
  func network() throws {
    let device = ServedDevice(EchoDevice())
    device.networkMessages = NetworkMessages(
      announce: { $0.config.replaceSubrange(0..<6, with: $1) }, setMTU: { $0.config[7] = UInt8($1 >> 8) })
    let frontend = try Frontend(device)
    #expect(try frontend.ask(Wire.getProtocolFeatures).number == Wire.all | Wire.rarp | Wire.mtu)
    try frontend.negotiate(protocol: Wire.all | Wire.rarp | Wire.mtu)
    #expect(try frontend.acknowledged(Wire.sendRarp, [9, 8, 7, 6, 5, 4, 0, 0]) == 0)
    #expect(try frontend.acknowledged(Wire.netSetMtu, number(9000)) == 0)
    let config = device.update { $0.config }
    #expect(config.prefix(8) == [9, 8, 7, 6, 5, 4, 6, 35])
    try frontend.send(Wire.netSetMtu, number(65_536))
    #expect(frontend.error == .illegalMTU(65_536))
    let other = try Frontend(device)
    try other.negotiate(protocol: Wire.all | Wire.mtu)
    #expect(try other.acknowledged(Wire.netSetMtu, number(68)) == 0)
    try other.send(Wire.netSetMtu, number(67))
    #expect(other.error == .illegalMTU(67))
  }
}
