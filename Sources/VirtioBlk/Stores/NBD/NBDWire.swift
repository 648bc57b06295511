/// The numbers of the NBD protocol (https://github.com/NetworkBlockDevice/nbd, `doc/proto.md`).
enum NBDWire {
  /// `NBDMAGIC`, with which every server begins.
  static let greeting: UInt64 = 0x4e42_444d_4147_4943
  /// `IHAVEOPT`, which follows it and begins every option.
  static let option: UInt64 = 0x4948_4156_454f_5054
  /// What follows the greeting of a server from before the newstyle protocol.
  static let oldStyle: UInt64 = 0x0000_4202_8186_1253
  static let optionReply: UInt64 = 0x0003_e889_0455_65a9

  static let request: UInt32 = 0x2560_9513
  static let simpleReply: UInt32 = 0x6744_6698
  static let chunk: UInt32 = 0x668e_33ef

  /// `NBD_FLAG_FIXED_NEWSTYLE`, `NBD_FLAG_NO_ZEROES`: alike for server and client.
  static let fixedNewstyle: UInt16 = 1
  static let noZeroes: UInt16 = 2

  enum Option {
    static let exportName: UInt32 = 1
    static let go: UInt32 = 7
    static let structuredReply: UInt32 = 8
  }

  enum OptionReply {
    static let acknowledgement: UInt32 = 1
    static let info: UInt32 = 3
    static let errorBit: UInt32 = 1 << 31
    static let unsupported = errorBit | 1
    static let encryptionRequired = errorBit | 5
    static let stopping = errorBit | 7
  }

  enum Info {
    static let export: UInt16 = 0
    static let blockSize: UInt16 = 3
  }

  enum ChunkType {
    static let none: UInt16 = 0
    static let data: UInt16 = 1
    static let hole: UInt16 = 2
    static let errorBit: UInt16 = 1 << 15
  }

  /// `NBD_REPLY_FLAG_DONE`.
  static let lastChunk: UInt16 = 1
  /// `NBD_ESHUTDOWN`.
  static let stopping: UInt32 = 108
  /// The longest text in the protocol, in bytes.
  static let longestText = 4096
}

/// `NBD_CMD_*`.
enum NBDCommand: UInt16 {
  case read = 0
  case write = 1
  case disconnect = 2
  case flush = 3
  case trim = 4
  case writeZeroes = 6
}

/// What a server says of an export (`NBD_FLAG_*`).
struct NBDFlags: OptionSet, Sendable {
  let rawValue: UInt16

  static let readOnly = NBDFlags(rawValue: 1 << 1)
  static let flush = NBDFlags(rawValue: 1 << 2)
  static let forceUnitAccess = NBDFlags(rawValue: 1 << 3)
  static let trim = NBDFlags(rawValue: 1 << 5)
  static let writeZeroes = NBDFlags(rawValue: 1 << 6)
  static let multipleConnections = NBDFlags(rawValue: 1 << 8)
}

/// `NBD_CMD_FLAG_*`.
struct NBDCommandFlags: OptionSet, Sendable {
  let rawValue: UInt16

  static let forceUnitAccess = NBDCommandFlags(rawValue: 1 << 0)
  static let noHole = NBDCommandFlags(rawValue: 1 << 1)
}

extension [UInt8] {
  mutating func append(bigEndian value: some FixedWidthInteger) {
    for shift in stride(from: value.bitWidth - 8, through: 0, by: -8) {
      append(UInt8(truncatingIfNeeded: value >> shift))
    }
  }

  /// The number whose first byte is at `offset`; the caller has seen that it is all there.
  func bigEndian<Value: FixedWidthInteger>(_ type: Value.Type = Value.self, at offset: Int) -> Value {
    self[offset..<offset + Value.bitWidth / 8].reduce(0) { ($0 << 8) | Value($1) }
  }

  /// The text in a part, for people: without what would confuse a terminal or a log.
  func text(_ part: Range<Int>) -> String {
    let text = String(decoding: self[part].prefix(256), as: UTF8.self)
    return String(text.unicodeScalars.filter { $0.properties.generalCategory != .control }.map(Character.init))
  }
}
