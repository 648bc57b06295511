import Foundation

/// Reading JSON that comes from elsewhere.
extension JSON: Decodable, Equatable {
  /// A value of JSON text; nil when it is none, or nested deeper than the decoder takes.
  init?(parsing text: String) {
    // What is wrong with it does not matter: it is shown as it is.
    guard let value = try? JSONDecoder().decode(JSON.self, from: Data(text.utf8)) else { return nil }
    self = value
  }

  private struct Name: CodingKey {
    let stringValue: String
    var intValue: Int? { nil }
    init(stringValue: String) { self.stringValue = stringValue }
    init?(intValue: Int) { nil }
  }

  init(from decoder: any Decoder) throws {
    if let members = try? decoder.container(keyedBy: Name.self) {
      self = .object(
        try members.allKeys.map { ($0.stringValue, try members.decode(JSON.self, forKey: $0)) })
      return
    }
    if var values = try? decoder.unkeyedContainer() {
      var array: [JSON] = []
      while !values.isAtEnd { array.append(try values.decode(JSON.self)) }
      self = .array(array)
      return
    }
    let value = try decoder.singleValueContainer()
    if value.decodeNil() {
      self = .null
    } else if let bool = try? value.decode(Bool.self) {
      self = .bool(bool)
    } else if let number = try? value.decode(UInt64.self) {
      self = .number(number)
    } else if let number = try? value.decode(Double.self) {
      self = .real(number)
    } else {
      self = .text(try value.decode(String.self))
    }
  }

  /// Members in any order are the same object.
  static func == (a: JSON, b: JSON) -> Bool {
    switch (a, b) {
    case (.null, .null): true
    case (.bool(let a), .bool(let b)): a == b
    case (.number(let a), .number(let b)): a == b
    case (.real(let a), .real(let b)): a == b
    case (.text(let a), .text(let b)): a == b
    case (.array(let a), .array(let b)): a == b
    case (.object(let a), .object(let members)):
      a.count == members.count && a.allSatisfy { (name, value) in b[name] == value }
    default: false
    }
  }

  /// A member of an object.
  subscript(_ name: String) -> JSON? {
    guard case .object(let members) = self else { return nil }
    return members.first { $0.0 == name }?.1
  }

  var text: String? { if case .text(let value) = self { value } else { nil } }
  var number: UInt64? { if case .number(let value) = self { value } else { nil } }
  var bool: Bool? { if case .bool(let value) = self { value } else { nil } }
  var array: [JSON]? { if case .array(let values) = self { values } else { nil } }
}
