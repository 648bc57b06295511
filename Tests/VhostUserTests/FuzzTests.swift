import Foundation
import LinuxIO
import Testing
import VhostUser

/// Random numbers that a seed repeats.
private struct Randomness: RandomNumberGenerator {
  private var state: UInt64

  init(seed: UInt64) {
    state = seed
  }

  mutating func next() -> UInt64 {
    state &+= 0x9e37_79b9_7f4a_7c15
    var mixed = state
    mixed = (mixed ^ (mixed >> 30)) &* 0xbf58_476d_1ce4_e5b9
    mixed = (mixed ^ (mixed >> 27)) &* 0x94d0_49bb_1331_11eb
    return mixed ^ (mixed >> 31)
  }

  mutating func chance(_ one: UInt64) -> Bool { next() % one == 0 }
}

@Suite("VhostUser: random messages") struct FuzzTests {
  private static let seed =
    ProcessInfo.processInfo.environment["VIRTIOKIT_SEED"].flatMap { UInt64($0) } ?? UInt64.random(in: 0...UInt64.max)

  /// A number that is likely to mean something, or to be just beyond.
  private func word(_ random: inout Randomness) -> UInt32 {
    switch random.next() % 4 {
    case 0: UInt32(random.next() % 3)
    case 1: [8, 256, 32_768, 65_535, 65_536, 4096, .max].randomElement(using: &random) ?? 0
    default: UInt32(truncatingIfNeeded: random.next())
    }
  }

  private func payload(of request: UInt32, _ random: inout Randomness) -> [UInt8] {
    var payload = MessageTests.goodPayloads[request] ?? (28...30 ~= request ? [] : words(UInt32(random.next() % 2), 0))
    if random.chance(40) { payload = Array((payload + number(random.next())).prefix(Int(random.next() % 64))) }
    // Mostly right messages reach deep; some words of them are replaced.
    if payload.count >= 4, random.chance(10) {
      let place = Int(random.next() % UInt64(payload.count / 4)) * 4
      payload.replaceSubrange(place..<place + 4, with: words(word(&random)))
    }
    return payload
  }

  private static let postcopy: [UInt32] = Userfaultfd.isAvailable ? [28, 30] : []

  /// What kind of descriptor belongs to a message, where it is no eventfd: memory, a socket, a pipe.
  private static let usualKinds: [UInt32: Int] = [
    Wire.setMemTable: 1, Wire.addMemReg: 1, Wire.setLogBase: 1, Wire.setInflightFd: 1, Wire.setBackendReqFd: 2,
    Wire.setDeviceStateFd: 3,
  ]

  /// One front-end's life: up to 60 messages, most of them nearly right.
  ///
  /// - Returns: how many were sent.
  private func live(
    on device: ServedDevice<EchoDevice>, _ random: inout Randomness, memory: borrowing Witness
  ) throws -> Int {
    var sentCount = 0
    let offered = random.chance(2) ? ProtocolFeatures.standard : .supported
    let frontend = try Frontend(device, offering: offered)
    let kick = try Eventfd()
    let pair = try UnixSocket.pair()
    let pipe = try FileDescriptor.pipe()
    // POSTCOPY_LISTEN would let this thread wait for pages that it ought to provide itself.
    let requests = MessageTests.goodPayloads.keys.sorted() + (offered == .supported ? [35] : []) + Self.postcopy
    let isAsynchronous = random.chance(2)
    device.update { $0.isAsynchronous = isAsynchronous }
    let driver = try GuestDriver()
    if random.chance(2) {
      try frontend.negotiate(features: Wire.version1)
      try driver.setUp(frontend)
    } else if !random.chance(4) {
      try frontend.negotiate()
    }
    for _ in 0..<60 where !frontend.isEnded {
      sentCount += 1
      if random.chance(3) {
        try driver.offer([1])
        try driver.kickDevice(frontend)
      }
      let request = random.chance(60) ? word(&random) : requests.randomElement(using: &random) ?? 0
      var count = MessageTests.descriptorCount(request)
      if random.chance(100) { count = Int(random.next() % 5) }
      let kinds = [
        kick.descriptor.rawValue, memory.number, pair.second.descriptor.rawValue, pipe.writing.rawValue,
        pipe.reading.rawValue,
      ]
      let usual = Self.usualKinds[request] ?? 0
      let descriptors = (0..<count).map { _ in random.chance(60) ? kinds[Int(random.next() % 5)] : kinds[usual] }
      let flags: UInt32 = random.chance(100) ? word(&random) : random.chance(2) ? 1 : 9
      try frontend.send(request, payload(of: request, &random), descriptors: descriptors, flags: flags)
      kick.signal()
      try frontend.pump()
      if random.chance(3) { try frontend.finish(Int(random.next() % 3)) }
      while try frontend.answer() != nil {}
    }
    try frontend.close()
    while !frontend.isEnded {
      let before = device.update { $0.requests.count }
      try frontend.finish(1)
      #expect(device.update { $0.requests.count } < before, "VIRTIOKIT_SEED=\(Self.seed)")
      guard before > 0 else { break }
    }
    return sentCount
  }

  @Test("thousands of messages, most of them nearly right, neither crash nor leak, and the next front-end is served")
  func survive() throws {
    var random = Randomness(seed: Self.seed)
    let device = ServedDevice(EchoDevice())
    let memory = try Witness(byteCount: 0x80000)
    var sentCount = 0
    while sentCount < 2000 { sentCount += try live(on: device, &random, memory: memory) }
    #expect(try memory.copyCount() == 0, "VIRTIOKIT_SEED=\(Self.seed)")
    #expect(device.memory == nil)
    device.update { $0.isAsynchronous = false }
    try serve(device)
  }

  @Test("random bytes end the connection")
  func noise() throws {
    var random = Randomness(seed: Self.seed)
    for _ in 0..<200 {
      let frontend = try Frontend()
      try frontend.sendRaw((0..<64).map { _ in UInt8(truncatingIfNeeded: random.next()) })
      #expect(frontend.error != nil, "VIRTIOKIT_SEED=\(Self.seed)")
    }
  }

  private func serve(_ device: ServedDevice<EchoDevice>) throws {
    let frontend = try Frontend(device)
    let driver = try GuestDriver()
    try frontend.negotiate(features: Wire.version1)
    try driver.setUp(frontend)
    try driver.offer([41])
    try driver.kickDevice(frontend)
    #expect(try driver.answer(0, byteCount: 1) == [42], "VIRTIOKIT_SEED=\(Self.seed)")
  }
}
