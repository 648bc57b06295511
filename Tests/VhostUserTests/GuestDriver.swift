import LinuxIO
import Testing

/// Guest memory and one ring of a driver, written through the file and not through a mapping.
///
/// Two regions of one file, at offsets: the rings are in the first, the buffers in the second.
final class GuestDriver {
  typealias Region = (guest: UInt64, size: UInt64, user: UInt64, offset: Int)

  static let ringRegion = (guest: UInt64(0), size: UInt64(0x10000), user: UInt64(0x7f00_0000_0000), offset: 0x10000)
  static let dataRegion = (
    guest: UInt64(1) << 32, size: UInt64(0x8000), user: UInt64(0x7e00_0000_0000), offset: 0x40000
  )
  static let size: UInt32 = 8

  let memory: Witness
  let kick: Eventfd
  let call: UnixSocket.Pair
  private var available: UInt16 = 0

  init() throws {
    kick = try Eventfd()
    call = try UnixSocket.pair()
    memory = try Witness(byteCount: 0x80000)
  }

  /// Another ring of the same driver, with kicks of its own.
  init(sharing other: GuestDriver) throws {
    kick = try Eventfd()
    call = try UnixSocket.pair()
    memory = try Witness(sharing: other.memory)
  }

  static func table() -> [UInt8] {
    words(2, 0)
      + [ringRegion, dataRegion].flatMap {
        number($0.guest) + number($0.size) + number($0.user) + number(UInt64($0.offset))
      }
  }

  /// The payload that adds or removes one region.
  static func region(_ region: Region) -> [UInt8] {
    number(0) + number(region.guest) + number(region.size) + number(region.user) + number(UInt64(region.offset))
  }

  static func addresses(ring: UInt32, log: UInt64? = nil) -> [UInt8] {
    let base = ringRegion.user + UInt64(ring) * 0x4000
    return words(ring, log == nil ? 0 : 1) + number(base) + number(base + 0x2000) + number(base + 0x1000)
      + number(log ?? 0)
  }

  /// The messages that share memory and set a ring up, without enabling it.
  func setUp(_ frontend: Frontend, ring: UInt32 = 0, base: UInt32 = 0) throws {
    try frontend.send(Wire.setMemTable, Self.table(), descriptors: [memory.number, memory.number])
    try setUpRing(frontend, ring: ring, base: base)
  }

  func setUpRing(_ frontend: Frontend, ring: UInt32 = 0, base: UInt32 = 0) throws {
    try frontend.send(Wire.setVringNum, words(ring, Self.size))
    try frontend.send(Wire.setVringBase, words(ring, base))
    try frontend.send(Wire.setVringAddr, Self.addresses(ring: ring))
    try frontend.send(Wire.setVringKick, number(UInt64(ring)), descriptors: [kickNumber])
    try frontend.send(Wire.setVringCall, number(UInt64(ring)), descriptors: [callNumber])
  }

  var kickNumber: Int32 { kick.descriptor.rawValue }
  var memoryNumbers: [Int32] { [memory.number, memory.number] }
  var callNumber: Int32 { call.second.descriptor.rawValue }

  /// Makes a chain available: a readable buffer with `bytes`, a writable one of the same size.
  func offer(_ bytes: [UInt8], ring: UInt32 = 0) throws {
    let slot = Int(available % UInt16(Self.size / 2))
    let data = 0x100 * slot
    let guest = Self.dataRegion.guest + UInt64(data)
    let table = Self.ringRegion.offset + Int(ring) * 0x4000
    try memory.file.writeAll(bytes, at: Self.dataRegion.offset + data)
    let count = UInt32(bytes.count)
    let descriptors =
      number(guest) + words(count, 1 | UInt32(2 * slot + 1) << 16) + number(guest + 0x80) + words(count, 2)
    try memory.file.writeAll(descriptors, at: table + 32 * slot)
    let place = table + 0x1000 + 4 + 2 * Int(available % UInt16(Self.size))
    try memory.file.writeAll([UInt8(2 * slot), 0], at: place)
    available &+= 1
    try memory.file.writeAll([UInt8(available & 0xff), UInt8(available >> 8)], at: table + 0x1000 + 2)
  }

  /// Overwrites both rings, as a guest does that has given them up.
  func fillRings(with byte: UInt8) throws {
    try memory.file.writeAll([UInt8](repeating: byte, count: 0x8000), at: Self.ringRegion.offset)
  }

  /// Says that buffers are available up to an index, true or not.
  func claimAvailable(_ index: UInt16, ring: Int = 0) throws {
    let place = Self.ringRegion.offset + ring * 0x4000 + 0x1000 + 2
    try memory.file.writeAll([UInt8(index & 0xff), UInt8(index >> 8)], at: place)
  }

  func usedIndex(ring: Int = 0) throws -> Int {
    let bytes = try memory.file.readBytes(upTo: 2, at: Self.ringRegion.offset + ring * 0x4000 + 0x2000 + 2)
    return Int(bytes[0]) | Int(bytes[1]) << 8
  }

  /// What the device wrote for the chain that was offered as number `index`.
  func answer(_ index: Int, byteCount: Int) throws -> [UInt8] {
    let slot = index % Int(Self.size / 2)
    return try memory.file.readBytes(upTo: byteCount, at: Self.dataRegion.offset + 0x100 * slot + 0x80)
  }

  func kickDevice(_ frontend: Frontend) throws {
    kick.signal()
    try frontend.pump()
  }

  /// How many bytes of calls came since this was last asked.
  func calls() throws -> Int {
    guard try call.first.waitUntilReadable(within: .zero) else { return 0 }
    return try call.first.descriptor.readBytes(upTo: 4096).count
  }
}
