/// The bytes that begin the parts of a stream (`migration/savevm.h`).
enum StreamPart {
  static let magic: UInt32 = 0x5145_564D
  static let version: UInt32 = 3
  /// The first word of a channel of several, which have only pages.
  static let multifdMagic: UInt32 = 0x1122_3344

  static let end: UInt8 = 0
  static let start: UInt8 = 1
  static let more: UInt8 = 2
  static let last: UInt8 = 3
  static let full: UInt8 = 4
  static let subsection: UInt8 = 5
  static let description: UInt8 = 6
  static let configuration: UInt8 = 7
  static let command: UInt8 = 8
  static let footer: UInt8 = 0x7E
}

/// The low bits of a page's offset, which say what follows (`migration/ram.h`).
enum RAMFlag {
  static let zero: UInt64 = 0x02
  static let sizes: UInt64 = 0x04
  static let page: UInt64 = 0x08
  static let end: UInt64 = 0x10
  static let sameBlock: UInt64 = 0x20
  static let delta: UInt64 = 0x40
  static let hook: UInt64 = 0x80
  static let compressed: UInt64 = 0x100
  static let channels: UInt64 = 0x200
  static let all: UInt64 = 0xFFF
}
