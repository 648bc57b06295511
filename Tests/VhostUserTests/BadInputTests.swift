import GuestRAM
import LinuxIO
import Testing
import VhostUser
import VirtioCore

@Suite("VhostUser: values that make no sense") struct BadInputTests {
  private func failure(
    of request: UInt32, _ payload: [UInt8], descriptors: [Int32] = [], afterTable: Bool = true
  ) throws -> VhostUserError? {
    let frontend = try Frontend()
    let driver = try GuestDriver()
    try frontend.negotiate()
    if afterTable { try driver.setUp(frontend) }
    try frontend.send(request, payload, descriptors: descriptors)
    #expect(frontend.isEnded)
    #expect(try driver.memory.copyCount() == 0)
    return frontend.error
  }

  private func table(_ regions: [[UInt64]]) -> [UInt8] {
    words(UInt32(regions.count), 0) + regions.flatMap { $0.flatMap(number) }
  }

  @Test("rings that the device does not have")
  func noSuchRing() throws {
    for request in [Wire.setVringNum, Wire.setVringBase, Wire.getVringBase, Wire.setVringEnable] {
      #expect(try failure(of: request, words(2, 0)) == .noSuchRing(2, count: 2))
      #expect(try failure(of: request, words(.max, 0)) == .noSuchRing(.max, count: 2))
    }
    #expect(try failure(of: Wire.setVringAddr, GuestDriver.addresses(ring: 9)) == .noSuchRing(9, count: 2))
    #expect(try failure(of: Wire.setVringCall, number(0xff | Wire.noDescriptor)) == .noSuchRing(255, count: 2))
  }

  @Test("ring sizes and bases out of range", arguments: [0, 3, 65_536, 65_537, .max] as [UInt32])
  func sizes(value: UInt32) throws {
    #expect(try failure(of: Wire.setVringNum, words(0, value)) == .illegalRingSize(value, ring: 0))
    guard value > 65_535 else { return }
    #expect(try failure(of: Wire.setVringBase, words(1, value)) == .illegalRingBase(value, ring: 1))
  }

  @Test("ring addresses before there is memory, or outside of it")
  func addresses() throws {
    let good = GuestDriver.addresses(ring: 0)
    #expect(try failure(of: Wire.setVringAddr, good, afterTable: false) == .noMemoryTable)
    for address in [0, GuestDriver.ringRegion.user - 1, GuestDriver.ringRegion.user + 0x10000, .max] {
      let bad = good.prefix(8) + number(address) + good.dropFirst(16)
      #expect(try failure(of: Wire.setVringAddr, Array(bad)) == .notInMemoryTable(userAddress: address))
    }
  }

  @Test("a ring that runs out of its region ends the connection when it starts")
  func ringAcrossEnd() throws {
    let frontend = try Frontend()
    let driver = try GuestDriver()
    try frontend.negotiate(features: Wire.version1)
    try driver.setUp(frontend)
    let last = GuestDriver.ringRegion.user + GuestDriver.ringRegion.size - 16
    try frontend.send(
      Wire.setVringAddr, words(0, 0) + number(last) + number(last) + number(last) + number(0))
    try driver.kickDevice(frontend)
    guard case .host(.virtqueue(_)) = frontend.error else { return #expect(Bool(false)) }
  }

  @Test("memory tables with too many regions, none, or endless, overlapping and short ones")
  func tables() throws {
    let file = try Witness()
    let one = [file.number]
    #expect(try failure(of: Wire.setMemTable, words(0, 0), descriptors: one) == .wrongRegionCount(0, most: 32))
    #expect(try failure(of: Wire.setMemTable, words(.max, 0), descriptors: one) == .wrongRegionCount(.max, most: 32))
    #expect(
      try failure(of: Wire.setMemTable, table([[0, 4096, .max - 5, 0]]), descriptors: one)
        == .regionEndless(userAddress: .max - 5, byteCount: 4096))
    let range = GuestRange(start: GuestAddress(0), byteCount: 4096)
    #expect(
      try failure(
        of: Wire.setMemTable, table([[0, 4096, 0, 0], [0, 4096, 8192, 0]]), descriptors: one + one)
        == .memory(.overlap(range, range)))
    for (byteCount, offset) in [(8192, 0), (4096, 1), (1, 1 << 40), (UInt64(4096), UInt64.max)] {
      guard
        case .memory(.fileTooShort) = try failure(
          of: Wire.setMemTable, table([[0, byteCount, 0, offset]]), descriptors: one)
      else { return #expect(Bool(false)) }
    }
    #expect(
      try failure(of: Wire.setMemTable, table([[0, 0, 0, 0]]), descriptors: one)
        == .memory(.emptyOrEndless(GuestRange(start: GuestAddress(0), byteCount: 0))))
    #expect(
      try failure(of: Wire.setMemTable, table([[0, 4096, 0, 0]]), descriptors: one + one)
        == .wrongDescriptorCount(request: Wire.setMemTable, count: 2, expected: 1...1))
    #expect(try file.copyCount() == 0)
  }

  @Test("a guest region that ends beyond 64 bits")
  func endlessGuestRegion() throws {
    let file = try Witness()
    guard
      case .memory(.emptyOrEndless) = try failure(
        of: Wire.setMemTable, table([[.max - 100, 4096, 0, 0]]), descriptors: [file.number])
    else { return #expect(Bool(false)) }
  }

  @Test("descriptors that are not what they should be")
  func descriptors() throws {
    let file = try Witness()
    let one = [file.number]
    guard case .system = try failure(of: Wire.setVringKick, number(0), descriptors: one) else {
      return #expect(Bool(false))
    }
    guard case .system = try failure(of: Wire.setBackendReqFd, [], descriptors: one) else {
      return #expect(Bool(false))
    }
    let pipe = try FileDescriptor.pipe()
    guard
      case .memory = try failure(
        of: Wire.setMemTable, table([[0, 4096, 0, 0]]), descriptors: [pipe.reading.rawValue])
    else { return #expect(Bool(false)) }
    #expect(try failure(of: Wire.setVringKick, number(Wire.noDescriptor)) == .pollingNeeded(ring: 0))
    #expect(
      try failure(of: Wire.setVringKick, number(Wire.noDescriptor), descriptors: one)
        == .wrongDescriptorCount(request: Wire.setVringKick, count: 1, expected: 0...0))
    #expect(try file.copyCount() == 0)
  }

  @Test("a kick descriptor whose other end is closed is no longer watched")
  func closedKick() throws {
    let frontend = try Frontend()
    try frontend.negotiate()
    do {
      let pair = try UnixSocket.pair()
      try frontend.send(Wire.setVringKick, number(0), descriptors: [pair.second.descriptor.rawValue])
    }
    try frontend.pump()
    #expect(try frontend.loop.runOnce(within: .zero) == 0)
    #expect(!frontend.isEnded)
  }
}
