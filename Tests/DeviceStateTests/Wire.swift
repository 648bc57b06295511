import Foundation

/// The format as the document describes it, written a second time: what the code must agree with.
enum Wire {
  static func u16(_ value: UInt16) -> [UInt8] { [UInt8(value & 0xFF), UInt8(value >> 8)] }
  static func u32(_ value: UInt32) -> [UInt8] { (0..<4).map { UInt8(truncatingIfNeeded: value >> (8 * $0)) } }
  static func name(_ name: String) -> [UInt8] { [UInt8(name.utf8.count)] + Array(name.utf8) }
  static func field(_ name: String, _ type: [UInt8], _ value: [UInt8]) -> [UInt8] { Self.name(name) + type + value }
  static func delimited(_ content: [UInt8]) -> [UInt8] { u32(UInt32(content.count)) + content }

  static let bool: [UInt8] = [1]
  static let u8: [UInt8] = [2]
  static let u16: [UInt8] = [3]
  static let u32: [UInt8] = [4]
  static let string: [UInt8] = [8]
  static let bytes: [UInt8] = [9]
  static let record: [UInt8] = [10]
  static let array: [UInt8] = [11]
  static let optional: [UInt8] = [12]

  static func section(
    _ name: String, instance: String = "", version: UInt32 = 1, flags: UInt16 = 0, _ payload: [UInt8]
  ) -> [UInt8] {
    let names = Self.name(name) + Self.name(instance)
    let fixed = u16(flags) + u32(version) + u32(UInt32(payload.count)) + u32(crc32c(payload))
    return u16(UInt16(2 + fixed.count + names.count)) + fixed + names + payload
  }

  static func snapshot(format: UInt16 = 1, addition: [UInt8] = [], sections: [[UInt8]]) -> [UInt8] {
    let rest = u16(format) + u32(UInt32(sections.count)) + name("tests") + name("9.1") + addition
    let header = Array("VKSTATE".utf8) + [0x1A] + u16(UInt16(10 + rest.count)) + rest
    return sealed(header + sections.joined())
  }

  static func sealed(_ bytes: [UInt8]) -> [UInt8] { bytes + u32(crc32c(bytes)) }

  /// A snapshot of one section after somebody changed it, with both checksums made right again where they can be found.
  static func resealed(_ snapshot: [UInt8]) -> [UInt8] {
    var bytes = Array(snapshot.dropLast(4))
    let section = Int(bytes[8]) | Int(bytes[9]) << 8
    if section + 16 <= bytes.count {
      let payload = section + (Int(bytes[section]) | Int(bytes[section + 1]) << 8)
      if payload <= bytes.count {
        bytes.replaceSubrange(section + 12..<section + 16, with: u32(crc32c(bytes[payload...])))
      }
    }
    return sealed(bytes)
  }

  /// RFC 3720, bit by bit.
  static func crc32c(_ bytes: some Sequence<UInt8>) -> UInt32 {
    var crc: UInt32 = ~0
    for byte in bytes {
      crc ^= UInt32(byte)
      for _ in 0..<8 { crc = crc & 1 == 1 ? crc >> 1 ^ 0x82F6_3B78 : crc >> 1 }
    }
    return ~crc
  }

  static func hex(_ bytes: [UInt8]) -> String { bytes.map { String(format: "%02x", $0) }.joined(separator: " ") }

  static func parse(hex: some StringProtocol) -> [UInt8] {
    hex.split(whereSeparator: \.isWhitespace).compactMap { UInt8($0, radix: 16) }
  }

  static func fixture(_ name: String) throws -> String {
    try String(contentsOf: Bundle.module.bundleURL.appending(path: "Fixtures/\(name)"), encoding: .utf8)
  }

  static func document(_ name: String) throws -> String {
    let package = URL(filePath: #filePath).deletingLastPathComponent().appending(path: "../..")
    return try String(contentsOf: package.appending(path: "docs/\(name)"), encoding: .utf8)
  }
}

/// SplitMix64: the same numbers for the same seed on every machine.
struct SeededGenerator: RandomNumberGenerator {
  let seed: UInt64
  private var state: UInt64

  /// The seed of `VIRTIOKIT_SEED`, or a new one.
  init() {
    seed = ProcessInfo.processInfo.environment["VIRTIOKIT_SEED"].flatMap { UInt64($0) } ?? .random(in: 1...UInt64.max)
    state = seed
  }

  mutating func next() -> UInt64 {
    state &+= 0x9E37_79B9_7F4A_7C15
    var z = state
    z = (z ^ z >> 30) &* 0xBF58_476D_1CE4_E5B9
    z = (z ^ z >> 27) &* 0x94D0_49BB_1331_11EB
    return z ^ z >> 31
  }
}
