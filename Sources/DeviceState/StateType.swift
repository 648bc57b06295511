/// The type of a value as it stands on the wire: one tag byte, followed by the element's type for arrays and optionals.
public indirect enum StateType: Hashable, Sendable {
  case bool
  case u8, u16, u32, u64
  case i32, i64
  case string
  case bytes
  case record
  case array(StateType)
  case optional(StateType)

  /// The first byte of the type on the wire.
  var tag: UInt8 {
    switch self {
    case .bool: 1
    case .u8: 2
    case .u16: 3
    case .u32: 4
    case .u64: 5
    case .i32: 6
    case .i64: 7
    case .string: 8
    case .bytes: 9
    case .record: 10
    case .array: 11
    case .optional: 12
    }
  }

  /// The fewest bytes that any value of this type takes: what bounds an array's count before anything is allocated.
  var minimumByteCount: Int {
    switch self {
    case .bool, .u8, .optional: 1
    case .u16: 2
    case .u32, .i32, .string, .bytes, .record: 4
    case .u64, .i64, .array: 8
    }
  }

  func append(to bytes: inout [UInt8]) {
    bytes.append(tag)
    switch self {
    case .array(let element), .optional(let element): element.append(to: &bytes)
    default: break
    }
  }
}

extension StateType: CustomStringConvertible {
  /// `u32`, `[record]`, `string?`.
  public var description: String {
    switch self {
    case .bool: "bool"
    case .u8: "u8"
    case .u16: "u16"
    case .u32: "u32"
    case .u64: "u64"
    case .i32: "i32"
    case .i64: "i64"
    case .string: "string"
    case .bytes: "bytes"
    case .record: "record"
    case .array(let element): "[\(element)]"
    case .optional(let element): "\(element)?"
    }
  }
}
