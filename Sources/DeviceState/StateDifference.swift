/// One value that is not the same in two documents.
public struct StateDifference: Equatable, Sendable {
  /// The section, as `name` or `name/instance`.
  public let section: String
  /// The path of the field, such as `queues[index=2].size`; empty for the section as a whole.
  public let field: String
  /// Nil where it is not there.
  public let old: StateTree?
  public let new: StateTree?
}

extension StateDocument {
  /// What is not the same in another document, in this one's order.
  ///
  /// Values are compared by name, not by place. Records in an array are told apart by their first field if that differs in
  /// all of them, as a queue's index does.
  public func differences(to other: StateDocument) -> [StateDifference] {
    var found: [StateDifference] = []
    for section in sections {
      let matching = other.sections.first { $0.label == section.label }
      var comparison = StateComparison(section: section.label)
      comparison.compare(section, matching)
      found += comparison.found
    }
    for section in other.sections where !sections.contains(where: { $0.label == section.label }) {
      var comparison = StateComparison(section: section.label)
      comparison.compare(nil, section)
      found += comparison.found
    }
    return found
  }
}

/// Goes through two trees side by side.
private struct StateComparison {
  let section: String
  private(set) var found: [StateDifference] = []

  init(section: String) {
    self.section = section
  }

  mutating func compare(_ old: StateDocument.Section?, _ new: StateDocument.Section?) {
    guard let old, let new else {
      return note("", old.map { .record($0.fields) }, new.map { .record($0.fields) })
    }
    if old.version != new.version {
      note("(version)", .unsigned(UInt64(old.version)), .unsigned(UInt64(new.version)))
    }
    compare(.record(old.fields), .record(new.fields), "")
  }

  private mutating func note(_ path: String, _ old: StateTree?, _ new: StateTree?) {
    found.append(StateDifference(section: section, field: path, old: old, new: new))
  }

  private mutating func compare(_ old: StateTree?, _ new: StateTree?, _ path: String) {
    switch (old, new) {
    case _ where old == new: break
    case (.record(let old), .record(let new)): compare(old, new, path)
    case (.array(let old), .array(let new)): compare(old, new, path)
    case (.optional(let old?), .optional(let new?)): compare(old, new, path)
    default: note(path, old, new)
    }
  }

  private mutating func compare(_ old: [StateTree.Field], _ new: [StateTree.Field], _ path: String) {
    let (oldPlaces, newPlaces) = (Self.places(of: old.map(Name.init)), Self.places(of: new.map(Name.init)))
    for field in old {
      let match = newPlaces[Name(field)].map { new[$0].value }
      compare(field.value, match, path.isEmpty ? field.name : "\(path).\(field.name)")
    }
    for field in new where oldPlaces[Name(field)] == nil {
      note(path.isEmpty ? field.name : "\(path).\(field.name)", nil, field.value)
    }
  }

  private mutating func compare(_ old: [StateTree], _ new: [StateTree], _ path: String) {
    guard let oldKeys = Self.keys(of: old), let newKeys = Self.keys(of: new) else {
      for index in 0..<max(old.count, new.count) {
        compare(
          old.indices.contains(index) ? old[index] : nil, new.indices.contains(index) ? new[index] : nil,
          "\(path)[\(index)]")
      }
      return
    }
    let (oldPlaces, newPlaces) = (Self.places(of: oldKeys), Self.places(of: newKeys))
    for (key, element) in zip(oldKeys, old) {
      compare(element, newPlaces[key].map { new[$0] }, "\(path)[\(key)]")
    }
    for (key, element) in zip(newKeys, new) where oldPlaces[key] == nil { note("\(path)[\(key)]", nil, element) }
  }

  /// What a field is found by.
  private struct Name: Hashable {
    let name: String
    let type: StateType

    init(_ field: StateTree.Field) { (name, type) = (field.name, field.type) }
  }

  /// Where each stands first.
  private static func places<Key: Hashable>(of keys: [Key]) -> [Key: Int] {
    Dictionary(keys.enumerated().map { ($1, $0) }) { first, _ in first }
  }

  /// What tells records apart; nil when nothing does.
  private static func keys(of elements: [StateTree]) -> [String]? {
    let keys = elements.compactMap(\.key)
    return keys.count == elements.count && Set(keys).count == keys.count ? keys : nil
  }
}

extension StateTree {
  /// The first field and its value, if this is a record that begins with a number or text.
  var key: String? {
    guard case .record(let fields) = self, let first = fields.first else { return nil }
    switch first.value {
    case .unsigned, .signed, .string: return "\(first.name)=\(first.value.scalar)"
    default: return nil
    }
  }
}

extension StateTree {
  /// The value on one line, as it stands beside a field's name for people; records and arrays as JSON.
  public var summary: String { scalar }
}
