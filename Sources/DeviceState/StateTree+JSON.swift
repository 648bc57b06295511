extension StateTree {
  /// The value of a type that JSON tells, in the form of `json`. Numbers may also be strings, and those hexadecimal.
  init(_ json: JSONText, as type: StateType, path: String) throws(StateError) {
    switch (type, json) {
    case (.bool, .bool(let value)): self = .bool(value)
    case (.u8, _), (.u16, _), (.u32, _), (.u64, _):
      self = .unsigned(try Self.number(json, type, path))
    case (.i32, _), (.i64, _): self = .signed(try Self.number(json, type, path))
    case (.string, .string(let value)): self = .string(value)
    case (.bytes, .string(let digits)): self = .bytes(try Self.bytes(digits, path))
    case (.record, .object(let members)): self = .record(try Self.fields(members, path))
    case (.array(let element), .array(let values)):
      var elements: [StateTree] = []
      for (index, value) in values.enumerated() {
        elements.append(try StateTree(value, as: element, path: "\(path)[\(index)]"))
      }
      self = .array(elements)
    case (.optional, .null): self = .optional(nil)
    case (.optional(.optional(let inner)), .array(let values)) where values.count == 1:
      self = .optional(try StateTree(values[0], as: .optional(inner), path: path))
    case (.optional(let wrapped), _):
      if case .optional = wrapped { throw Self.misfit(json, type, path) }
      self = .optional(try StateTree(json, as: wrapped, path: path))
    default: throw Self.misfit(json, type, path)
    }
  }

  private static func misfit(_ json: JSONText, _ type: StateType, _ path: String) -> StateError {
    let text = String(json.indented.dropLast().prefix(80))
    return .unreadableValue(field: path, text: text, type: type)
  }

  private static func number<T: FixedWidthInteger>(
    _ json: JSONText, _ type: StateType, _ path: String
  ) throws(StateError) -> T {
    var number: T?
    switch json {
    case .number(let digits): number = T(digits)
    case .string(let text): number = text.hasPrefix("0x") ? T(text.dropFirst(2), radix: 16) : T(text)
    default: break
    }
    guard let number else { throw misfit(json, type, path) }
    let probe: StateTree = T.isSigned ? .signed(Int64(number)) : .unsigned(UInt64(number))
    // A number of another width is found by the writer's own rule.
    guard (try? StateTree.record([Field(name: "", type: type, value: probe)]).payload()) != nil else {
      throw misfit(json, type, path)
    }
    return number
  }

  private static func bytes(_ digits: String, _ path: String) throws(StateError) -> [UInt8] {
    let digits = Array(digits.utf8)
    var bytes: [UInt8] = []
    bytes.reserveCapacity(digits.count / 2)
    for place in stride(from: 0, to: digits.count, by: 2) {
      guard place + 1 < digits.count, let high = value(ofDigit: digits[place]),
        let low = value(ofDigit: digits[place + 1])
      else {
        throw .unreadableValue(field: path, text: String(decoding: digits.prefix(80), as: UTF8.self), type: .bytes)
      }
      bytes.append(high << 4 | low)
    }
    return bytes
  }

  private static func value(ofDigit digit: UInt8) -> UInt8? {
    switch digit {
    case UInt8(ascii: "0")...UInt8(ascii: "9"): digit - UInt8(ascii: "0")
    case UInt8(ascii: "a")...UInt8(ascii: "f"): digit - UInt8(ascii: "a") + 10
    case UInt8(ascii: "A")...UInt8(ascii: "F"): digit - UInt8(ascii: "A") + 10
    default: nil
    }
  }

  private static func fields(_ members: [JSONText.Member], _ path: String) throws(StateError) -> [Field] {
    var fields: [Field] = []
    for member in members {
      // A name may have colons, a type has none.
      guard let colon = member.name.lastIndex(of: ":"), let type = StateType(member.name[colon...].dropFirst(2)) else {
        throw .unexpectedJSON(path: "\(path).\(member.name)", reason: "is no name and type, such as \"pages: u32\"")
      }
      let name = String(member.name[..<colon])
      fields.append(
        Field(name: name, type: type, value: try StateTree(member.value, as: type, path: "\(path).\(name)")))
    }
    return fields
  }
}

extension StateType {
  /// Reads what `description` wrote; nil when it is none, or nested deeper than `StateLimits.nesting`.
  init?(_ text: some StringProtocol) {
    self.init(text[...], depth: 0)
  }

  private init?(_ text: some StringProtocol, depth: Int) {
    guard depth < StateLimits.nesting else { return nil }
    if text.hasSuffix("?") {
      guard let wrapped = StateType(text.dropLast(), depth: depth + 1) else { return nil }
      self = .optional(wrapped)
    } else if text.hasPrefix("["), text.hasSuffix("]") {
      guard let element = StateType(text.dropFirst().dropLast(), depth: depth + 1) else { return nil }
      self = .array(element)
    } else {
      let plain: [StateType] = [.bool, .u8, .u16, .u32, .u64, .i32, .i64, .string, .bytes, .record]
      guard let type = plain.first(where: { $0.description == text }) else { return nil }
      self = type
    }
  }
}
