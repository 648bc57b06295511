/// A value of JSON, as much of it as a stream's description of itself needs.
indirect enum JSON {
  case object([String: JSON])
  case array([JSON])
  case string(String)
  /// A number that is a whole one, with its place in the text.
  case integer(Int64, at: Range<Int>)
  /// True, false, null, and numbers that are not whole.
  case other

  subscript(_ key: String) -> JSON? {
    guard case .object(let members) = self else { return nil }
    return members[key]
  }

  var text: String? {
    guard case .string(let text) = self else { return nil }
    return text
  }

  var integer: Int64? {
    guard case .integer(let value, _) = self else { return nil }
    return value
  }

  var elements: [JSON]? {
    guard case .array(let elements) = self else { return nil }
    return elements
  }
}

/// Reads JSON (RFC 8259), whoever wrote it, within the limits of a description.
struct JSONParser {
  private let bytes: [UInt8]
  private let origin: UInt64
  private var position = 0
  private var valueCount = 0

  /// - Parameter origin: where in the stream the text begins.
  static func parse(_ bytes: [UInt8], origin: UInt64) throws(QEMUStreamError) -> JSON {
    var parser = JSONParser(bytes: bytes, origin: origin)
    let value = try parser.value(depth: 0)
    parser.skipSpace()
    guard parser.position == bytes.count else { throw parser.invalid("text after the description") }
    return value
  }

  private init(bytes: [UInt8], origin: UInt64) {
    self.bytes = bytes
    self.origin = origin
  }

  private var next: UInt8? { position < bytes.count ? bytes[position] : nil }

  private func invalid(_ reason: String) -> QEMUStreamError {
    .invalid(
      StreamPlace(section: "description", offset: origin + UInt64(position)), reason: "no JSON: \(reason)")
  }

  private mutating func skipSpace() {
    while let next, next == 0x20 || (9...13).contains(next) { position += 1 }
  }

  private mutating func take(_ character: Character) -> Bool {
    skipSpace()
    guard let next, next == character.asciiValue else { return false }
    position += 1
    return true
  }

  private mutating func value(depth: Int) throws(QEMUStreamError) -> JSON {
    valueCount += 1
    guard depth < StreamLimits.descriptionDepth else { throw invalid("nested too deep") }
    guard valueCount <= StreamLimits.descriptionValueCount else { throw invalid("too many values") }
    skipSpace()
    switch next {
    case UInt8(ascii: "{"): return try object(depth: depth)
    case UInt8(ascii: "["): return try array(depth: depth)
    case UInt8(ascii: "\""): return .string(try string())
    default: return try word()
    }
  }

  private mutating func object(depth: Int) throws(QEMUStreamError) -> JSON {
    position += 1
    var members: [String: JSON] = [:]
    if take("}") { return .object(members) }
    repeat {
      skipSpace()
      guard next == UInt8(ascii: "\"") else { throw invalid("a member without a name") }
      let key = try string()
      guard take(":") else { throw invalid("no colon after a name") }
      guard members.updateValue(try value(depth: depth + 1), forKey: key) == nil else {
        throw invalid("a member twice")
      }
    } while take(",")
    guard take("}") else { throw invalid("an object that does not end") }
    return .object(members)
  }

  private mutating func array(depth: Int) throws(QEMUStreamError) -> JSON {
    position += 1
    var elements: [JSON] = []
    if take("]") { return .array(elements) }
    repeat { elements.append(try value(depth: depth + 1)) } while take(",")
    guard take("]") else { throw invalid("an array that does not end") }
    return .array(elements)
  }

  /// A string. The names in a description are ASCII, so that an escape stands for itself and no more.
  private mutating func string() throws(QEMUStreamError) -> String {
    position += 1
    let start = position
    while let next, next != UInt8(ascii: "\"") {
      guard next >= 0x20 else { throw invalid("a control character") }
      position += next == UInt8(ascii: "\\") ? 2 : 1
    }
    guard position < bytes.count else {
      position = bytes.count
      throw invalid("a string that does not end")
    }
    guard let text = String(validating: bytes[start..<position], as: UTF8.self) else {
      throw invalid("a string that is not UTF-8")
    }
    position += 1
    return text
  }

  private mutating func word() throws(QEMUStreamError) -> JSON {
    let start = position
    while let next, isPartOfWord(next) { position += 1 }
    let text = String(decoding: bytes[start..<position], as: UTF8.self)
    if let value = Int64(text) { return .integer(value, at: start..<position) }
    guard ["true", "false", "null"].contains(text) || Double(text) != nil else {
      position = start
      throw invalid("no value")
    }
    return .other
  }

  private func isPartOfWord(_ byte: UInt8) -> Bool {
    switch byte {
    case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "0")...UInt8(ascii: "9"): true
    case UInt8(ascii: "-"), UInt8(ascii: "+"), UInt8(ascii: "."), UInt8(ascii: "E"): true
    default: false
    }
  }
}
