/// A value in a stream, by its name, with its place.
public struct StreamField: Equatable, Sendable {
  public enum Value: Equatable, Sendable {
    case unsigned(UInt64)
    case signed(Int64)
    case text(String)
    case bytes([UInt8])
  }

  /// Its path within the section, such as `queues[0].desc`.
  public let name: String
  /// Where it stands in the stream.
  public let offset: UInt64
  /// How many bytes of the stream it takes.
  public let byteCount: Int
  public let value: Value

  public init(name: String, offset: UInt64, byteCount: Int, value: Value) {
    self.name = name
    self.offset = offset
    self.byteCount = byteCount
    self.value = value
  }
}

extension StreamField.Value: CustomStringConvertible {
  /// Numbers in decimal, text in quotes, bytes in hexadecimal digits, of which only the first are shown of many.
  public var description: String {
    switch self {
    case .unsigned(let value): "\(value)"
    case .signed(let value): "\(value)"
    case .text(let text): "\"\(text.printable)\""
    case .bytes(let bytes) where bytes.isEmpty: "(empty)"
    case .bytes(let bytes) where bytes.count > 32: "\(Self.hex(bytes.prefix(32)))… (\(bytes.count) bytes)"
    case .bytes(let bytes): Self.hex(bytes[...])
    }
  }

  private static func hex(_ bytes: ArraySlice<UInt8>) -> String {
    bytes.map { ($0 < 16 ? "0" : "") + String($0, radix: 16) }.joined()
  }
}

/// A field that is not the same in two streams.
public struct StreamDifference: Equatable, Sendable, CustomStringConvertible {
  /// The section as `name` or `name/instance`.
  public let section: String
  /// The field's path within it; empty when the whole section is only in one of the two.
  public let field: String
  /// Nil where a stream does not have the field.
  public let old: StreamField.Value?
  public let new: StreamField.Value?

  public var description: String {
    let place = field.isEmpty ? section.printable : "\(section.printable): \(field.printable)"
    return "\(place): \(old.map(\.description) ?? "absent") -> \(new.map(\.description) ?? "absent")"
  }
}
