extension Snapshot {
  /// `json` on several lines, for editing and for comparing line by line.
  public var indentedJSON: String {
    get throws(StateError) { try JSONText(parsing: json).indented }
  }

  /// The snapshot that a text in the form of `json` tells: for a text that was made by it, the same one byte for byte.
  ///
  /// Members that are not part of the form are refused. Throws `invalidJSON` with the line, `unexpectedJSON` or
  /// `unreadableValue` with the path, and what a section of such values would be refused for.
  public init(json text: String) throws(StateError) {
    let object = JSONObject(try JSONText(parsing: text), path: "")
    try object.checkMembers(["producer", "producerVersion", "sections"])
    let producer = try object.name("producer")
    self.init(producer: producer, producerVersion: try object.name("producerVersion"))
    for section in try object.objects("sections") { try add(SnapshotSection(section)) }
  }
}

extension StateDocument {
  /// `json` on several lines.
  public var indentedJSON: String {
    get throws(StateError) { try JSONText(parsing: json).indented }
  }
}

extension SnapshotSection {
  fileprivate init(_ object: JSONObject) throws(StateError) {
    try object.checkMembers(["name", "instance", "version", "optional", "fields", "payload", "error"])
    try self.init(
      name: object.name("name"), instance: object.name("instance"), version: object.integer("version"),
      isOptional: object.flag("optional"), payload: Self.payload(object))
  }

  /// A payload that is no fields stands there as it is.
  private static func payload(_ object: JSONObject) throws(StateError) -> [UInt8] {
    let path = try object.name("name")
    guard !object.has("payload") else {
      let tree = try StateTree(object.member("payload"), as: .bytes, path: path)
      guard case .bytes(let bytes) = tree else { return [] }
      return bytes
    }
    let payload = try StateTree(object.member("fields"), as: .record, path: path).payload()
    // A text can nest deeper than a state, or give two fields of different types one name.
    _ = try StateTree(decoding: payload)
    return payload
  }
}

/// An object of the text, which knows where it stands.
private struct JSONObject {
  private let value: JSONText
  private let path: String

  init(_ value: JSONText, path: String) {
    self.value = value
    self.path = path
  }

  private func path(_ name: String) -> String { path.isEmpty ? name : "\(path).\(name)" }

  func checkMembers(_ known: [String]) throws(StateError) {
    guard case .object(let members) = value else { throw .unexpectedJSON(path: path, reason: "is no object") }
    for member in members where !known.contains(member.name) {
      throw .unexpectedJSON(path: path(member.name), reason: "is not part of a snapshot")
    }
  }

  func has(_ name: String) -> Bool { value[name] != nil }

  func member(_ name: String) throws(StateError) -> JSONText {
    guard let member = value[name] else { throw .unexpectedJSON(path: path(name), reason: "is missing") }
    return member
  }

  func name(_ name: String) throws(StateError) -> String {
    guard case .string(let text) = try member(name), text.utf8.count <= StateLimits.nameByteCount else {
      throw .unexpectedJSON(path: path(name), reason: "is no text of at most \(StateLimits.nameByteCount) bytes")
    }
    return text
  }

  func integer(_ name: String) throws(StateError) -> Int {
    guard case .number(let digits) = try member(name), let number = Int(digits) else {
      throw .unexpectedJSON(path: path(name), reason: "is no whole number")
    }
    return number
  }

  func flag(_ name: String) throws(StateError) -> Bool {
    guard case .bool(let flag) = try member(name) else {
      throw .unexpectedJSON(path: path(name), reason: "is neither true nor false")
    }
    return flag
  }

  func objects(_ name: String) throws(StateError) -> [JSONObject] {
    guard case .array(let values) = try member(name) else {
      throw .unexpectedJSON(path: path(name), reason: "is no array")
    }
    return values.enumerated().map { JSONObject($1, path: "\(path(name))[\($0)]") }
  }
}
