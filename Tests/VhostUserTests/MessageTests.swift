import LinuxIO
import Testing
import VhostUser

@Suite("VhostUser: messages") struct MessageTests {
  @Test("a message may come in any number of pieces")
  func pieces() throws {
    let frontend = try Frontend()
    let bytes = words(Wire.setFeatures, 9, 8) + number(Wire.version1)
    for byte in bytes.dropLast() { try frontend.socket?.send([byte]) }
    try frontend.sendRaw([bytes[bytes.count - 1]])
    #expect(try frontend.answer()?.payload == number(0))
  }

  @Test("several messages that come at once are taken one by one")
  func severalAtOnce() throws {
    let frontend = try Frontend()
    try frontend.sendRaw(words(Wire.getFeatures, 1, 0) + words(Wire.getProtocolFeatures, 1, 0))
    #expect(try frontend.answer()?.request == Wire.getFeatures)
    #expect(try frontend.answer()?.request == Wire.getProtocolFeatures)
  }

  @Test("a front-end that leaves between messages ends its session without error")
  func leave() throws {
    let frontend = try Frontend()
    try frontend.close()
    #expect(frontend.isEnded && frontend.error == nil)
  }

  @Test("a message that breaks off, by stalling or by leaving, ends the connection", arguments: [1, 11, 12, 19])
  func truncated(byteCount: Int) throws {
    let bytes = Array((words(Wire.setFeatures, 1, 8) + number(Wire.version1)).prefix(byteCount))
    let stalling = try Frontend()
    try stalling.sendRaw(bytes)
    guard case .system(let stall) = stalling.error else {
      return #expect(Bool(false), "\(String(describing: stalling.error))")
    }
    #expect(stall.call == "recvmsg")
    let leaving = try Frontend()
    try leaving.socket?.send(bytes)
    try leaving.close()
    guard case .system(let leave) = leaving.error else {
      return #expect(Bool(false), "\(String(describing: leaving.error))")
    }
    #expect(leave.call == "recvmsg")
  }

  @Test("a payload beyond all sense is not waited for")
  func tooLarge() throws {
    let frontend = try Frontend()
    try frontend.sendRaw(words(Wire.setConfig, 1, 4109))
    #expect(frontend.error == .payloadTooLarge(request: Wire.setConfig, byteCount: 4109, most: 4108))
    let largest = try Frontend()
    try largest.negotiate()
    try largest.send(Wire.getConfig, words(0, 4096, 0) + [UInt8](repeating: 0, count: 4096))
    #expect(try largest.answer()?.payload.count == 4108)
  }

  @Test("another version, and an answer where a request is due, end the connection")
  func flags() throws {
    for flags: UInt32 in [0, 2, 3] {
      let frontend = try Frontend()
      try frontend.send(Wire.setOwner, flags: flags)
      #expect(frontend.error == .wrongVersion(request: Wire.setOwner, flags: flags))
    }
    let frontend = try Frontend()
    try frontend.send(Wire.setOwner, flags: 5)
    #expect(frontend.error == .wrongDirection(request: Wire.setOwner))
  }

  /// Each message that is supported, with a payload that is right.
  static let goodPayloads: [UInt32: [UInt8]] = [
    1: [], 2: number(Wire.version1), 3: [], 4: [], 5: GuestDriver.table(), 6: number(0x21000) + number(0), 7: [],
    8: words(0, 8), 9: GuestDriver.addresses(ring: 0), 10: words(0, 0), 11: words(0, 0), 12: number(0), 13: number(0),
    14: number(0), 15: [], 16: number(Wire.all), 17: [], 18: words(0, 1), 21: [], 24: words(0, 4, 0) + words(0),
    25: words(0, 4, 0) + words(0), 31: inflight, 32: inflight, 34: [], 36: [],
    37: GuestDriver.region(GuestDriver.ringRegion), 38: GuestDriver.region(GuestDriver.ringRegion), 39: number(1),
    40: [], 42: words(0, 0), 43: [],
  ]

  private static let inflight = number(1024) + number(0) + words(2 | 8 << 16, 0)

  static func descriptorCount(_ request: UInt32) -> Int {
    [5: 2, 6: 1, 7: 1, 12: 1, 13: 1, 14: 1, 21: 1, 32: 1, 37: 1, 42: 1][request] ?? 0
  }

  @Test("a payload of any other size ends the connection", arguments: goodPayloads.keys.sorted())
  func wrongSizes(request: UInt32) throws {
    let good = try #require(Self.goodPayloads[request])
    for count in Set([0, good.count - 1, good.count + 1, good.count + 8, 300]) where count >= 0 && count != good.count {
      let frontend = try Frontend()
      let witness = try Witness(byteCount: 0x80000)
      try frontend.negotiate()
      let payload = Array((good + [UInt8](repeating: 0, count: 300)).prefix(count))
      let descriptors = [Int32](repeating: witness.number, count: Self.descriptorCount(request))
      try frontend.send(request, payload, descriptors: descriptors)
      guard case .wrongPayloadSize(request, count, _) = frontend.error else {
        return #expect(Bool(false), "\(count): \(String(describing: frontend.error))")
      }
      #expect(try witness.copyCount() == 0)
    }
  }

  @Test("a memory table may have room for regions that it does not count: User-Mode Linux always sends two")
  func roomyMemoryTable() throws {
    let frontend = try Frontend()
    let witness = try Witness(byteCount: 0x80000)
    try frontend.negotiate()
    let oneOfTwo = words(1, 0) + GuestDriver.table().dropFirst(8)
    try frontend.send(Wire.setMemTable, oneOfTwo, descriptors: [witness.number])
    #expect(!frontend.isEnded)
  }

  @Test("more or fewer descriptors than belong to a message end the connection", arguments: goodPayloads.keys.sorted())
  func wrongDescriptorCounts(request: UInt32) throws {
    let good = try #require(Self.goodPayloads[request])
    let right = Self.descriptorCount(request)
    for count in 0...33 where count != right {
      let frontend = try Frontend()
      let witness = try Witness(byteCount: 0x80000)
      try frontend.negotiate()
      // A descriptor needs a byte to travel with, which the header always has.
      try frontend.send(request, good, descriptors: [Int32](repeating: witness.number, count: count))
      #expect(frontend.isEnded && frontend.error != nil)
      #expect(try witness.copyCount() == 0)
    }
  }

  @Test("a front-end that does not read its answers loses its connection")
  func unreadAnswers() throws {
    let frontend = try Frontend()
    for _ in 0..<2000 where !frontend.isEnded { try frontend.send(Wire.getFeatures) }
    guard case .system(let error) = frontend.error else { return #expect(Bool(false)) }
    #expect(error.call == "sendmsg")
  }
}
