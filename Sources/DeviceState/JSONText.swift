/// A JSON text taken apart, with its members in order and its numbers as they are written.
indirect enum JSONText: Equatable {
  case null
  case bool(Bool)
  /// The digits, which are not rounded.
  case number(String)
  case string(String)
  case array([JSONText])
  case object([Member])

  struct Member: Equatable {
    let name: String
    let value: JSONText
  }

  /// Throws `invalidJSON`.
  init(parsing text: String) throws(StateError) {
    var parser = JSONParser(text)
    self = try parser.document()
  }

  /// The text on several lines: a member of an object on each, and an array on one when nothing in it has members.
  var indented: String { lines(indentation: "") + "\n" }

  private func lines(indentation: String) -> String {
    let inner = indentation + "  "
    switch self {
    case .null: return "null"
    case .bool(let value): return "\(value)"
    case .number(let digits): return digits
    case .string(let value): return value.quoted
    case .array(let values) where values.allSatisfy(\.isScalar):
      return "[" + values.map { $0.lines(indentation: "") }.joined(separator: ", ") + "]"
    case .array(let values):
      return "[\n" + values.map { inner + $0.lines(indentation: inner) }.joined(separator: ",\n") + "\n\(indentation)]"
    case .object(let members):
      if members.isEmpty { return "{}" }
      let rows = members.map { "\(inner)\($0.name.quoted): \($0.value.lines(indentation: inner))" }
      return "{\n" + rows.joined(separator: ",\n") + "\n\(indentation)}"
    }
  }

  private var isScalar: Bool {
    switch self {
    case .array, .object: false
    default: true
    }
  }

  subscript(name: String) -> JSONText? {
    guard case .object(let members) = self else { return nil }
    return members.first { $0.name == name }?.value
  }
}

/// RFC 8259, strictly.
private struct JSONParser {
  private let bytes: [UInt8]
  private var position = 0
  private var valueCount = 0
  /// What the values of a snapshot need, and its sections around them.
  private static let mostValues = StateLimits.valueCount + 8 * (StateLimits.sectionCount + 1)

  init(_ text: String) {
    bytes = Array(text.utf8)
  }

  mutating func document() throws(StateError) -> JSONText {
    let value = try value(depth: 0)
    skipSpace()
    guard position == bytes.count else { throw error("more stands after the end of the value") }
    return value
  }

  private func error(_ reason: String) -> StateError {
    .invalidJSON(line: 1 + bytes[..<position].count { $0 == UInt8(ascii: "\n") }, reason: reason)
  }

  private var current: UInt8? { position < bytes.count ? bytes[position] : nil }

  private mutating func skipSpace() {
    while let byte = current, [0x20, 0x0A, 0x0D, 0x09].contains(byte) { position += 1 }
  }

  private mutating func skip(_ character: Unicode.Scalar) -> Bool {
    skipSpace()
    guard current == UInt8(ascii: character) else { return false }
    position += 1
    return true
  }

  private mutating func value(depth: Int) throws(StateError) -> JSONText {
    // Every record and array of a state is at most two levels of text.
    guard depth < 4 * StateLimits.nesting else { throw error("values are nested too deep") }
    guard valueCount < Self.mostValues else { throw error("there are more than \(Self.mostValues) values") }
    valueCount += 1
    if skip("{") { return .object(try members(depth: depth + 1)) }
    if skip("[") { return .array(try elements(depth: depth + 1)) }
    if skip("\"") { return .string(try string()) }
    return try word()
  }

  private mutating func members(depth: Int) throws(StateError) -> [JSONText.Member] {
    if skip("}") { return [] }
    var members: [JSONText.Member] = []
    var names: Set<String> = []
    repeat {
      guard skip("\"") else { throw error("a member's name is missing") }
      let name = try string()
      guard names.insert(name).inserted else { throw error("the member \(name.quoted) is there twice") }
      guard skip(":") else { throw error("a colon is missing after \(name.quoted)") }
      members.append(JSONText.Member(name: name, value: try value(depth: depth)))
    } while skip(",")
    guard skip("}") else { throw error("a comma or closing brace is missing") }
    return members
  }

  private mutating func elements(depth: Int) throws(StateError) -> [JSONText] {
    if skip("]") { return [] }
    var elements: [JSONText] = []
    repeat { elements.append(try value(depth: depth)) } while skip(",")
    guard skip("]") else { throw error("a comma or closing bracket is missing") }
    return elements
  }

  private mutating func word() throws(StateError) -> JSONText {
    let start = position
    while let byte = current, byte > 0x20, !",]}:".utf8.contains(byte) { position += 1 }
    let word = String(decoding: bytes[start..<position], as: UTF8.self)
    switch word {
    case "null": return .null
    case "true": return .bool(true)
    case "false": return .bool(false)
    // No sign for what is above zero, and no zeros in front.
    case _ where UInt64(word).map(String.init) == word || Int64(word).map(String.init) == word: return .number(word)
    default: throw error(word.isEmpty ? "a value is missing" : "\(word.quoted) is no value of a state")
    }
  }

  private mutating func string() throws(StateError) -> String {
    var units: [UInt8] = []
    while let byte = current, byte != UInt8(ascii: "\"") {
      guard byte >= 0x20 else { throw error("a string does not end") }
      position += 1
      if byte == UInt8(ascii: "\\") { try escape(&units) } else { units.append(byte) }
    }
    guard current != nil, let text = String(validating: units, as: UTF8.self) else {
      throw error("a string does not end")
    }
    position += 1
    return text
  }

  private mutating func escape(_ units: inout [UInt8]) throws(StateError) {
    guard let letter = current else { throw error("a string does not end") }
    position += 1
    switch letter {
    case UInt8(ascii: "n"): units.append(0x0A)
    case UInt8(ascii: "t"): units.append(0x09)
    case UInt8(ascii: "r"): units.append(0x0D)
    case UInt8(ascii: "b"): units.append(0x08)
    case UInt8(ascii: "f"): units.append(0x0C)
    case UInt8(ascii: "\""), UInt8(ascii: "\\"), UInt8(ascii: "/"): units.append(letter)
    case UInt8(ascii: "u"): units.append(contentsOf: try scalar().utf8)
    default: throw error("a backslash stands before a character that needs none")
    }
  }

  private mutating func scalar() throws(StateError) -> Character {
    var codes = [try unit()]
    if UTF16.isLeadSurrogate(codes[0]), bytes[position...].starts(with: "\\u".utf8) {
      position += 2
      codes.append(try unit())
    }
    guard let text = String(validating: codes, as: UTF16.self), let character = text.first else {
      throw error("an escaped character is none")
    }
    return character
  }

  private mutating func unit() throws(StateError) -> UInt16 {
    let digits = bytes[position...].prefix(4)
    guard digits.count == 4, digits.allSatisfy({ Character(Unicode.Scalar($0)).isHexDigit }),
      let unit = UInt16(String(decoding: digits, as: UTF8.self), radix: 16)
    else { throw error("four hexadecimal digits are missing") }
    position += 4
    return unit
  }
}
