/// Saved states in order: what a file of device state is, and what migration carries.
public struct Snapshot: Equatable, Sendable {
  /// The program that wrote it, for people to read.
  public let producer: String
  public let producerVersion: String
  public private(set) var sections: [SnapshotSection] = []

  /// An empty snapshot. Each of the two names has at most 255 bytes of UTF-8.
  public init(producer: String = "VirtioKit", producerVersion: String = "") {
    precondition(producer.utf8.count <= StateLimits.nameByteCount)
    precondition(producerVersion.utf8.count <= StateLimits.nameByteCount)
    self.producer = producer
    self.producerVersion = producerVersion
  }

  // MARK: - States

  /// Adds the section of a state.
  ///
  /// - Parameters:
  ///   - optional: whether a reader that does not know the section may leave it alone.
  ///   - instance: which of several devices of a kind, at most 255 bytes.
  ///   - version: an older version than the newest, for a reader that does not know the newest.
  public mutating func add<S: SavedState>(
    _ state: S, optional: Bool = false, instance: String = "", version: Int = S.version
  ) throws(StateError) {
    let payload = try state.encoded(as: version)
    try add(
      SnapshotSection(name: S.section, instance: instance, version: version, isOptional: optional, payload: payload))
  }

  /// Adds a section as it is. Throws `duplicateSection` or `countBeyondLimit`.
  public mutating func add(_ section: SnapshotSection) throws(StateError) {
    guard index(of: section.name, section.instance) == nil else { throw .duplicateSection(section: section.label) }
    guard sections.count < StateLimits.sectionCount else {
      let place = StatePlace(section: section.label, field: "", offset: 0)
      throw .countBeyondLimit(place, count: sections.count + 1, limit: StateLimits.sectionCount)
    }
    sections.append(section)
  }

  /// Whether there is a section of this state, in whatever version.
  public func contains<S: SavedState>(_: S.Type, instance: String = "") -> Bool {
    index(of: S.section, instance) != nil
  }

  /// The state in its section, which stays; a version that is older than the newest is brought up to it.
  public func read<S: SavedState>(_: S.Type, instance: String = "") throws(StateError) -> S {
    guard let index = index(of: S.section, instance) else {
      throw .missingSection(section: SnapshotSection.label(S.section, instance))
    }
    return try S(sections[index].cursor, version: sections[index].version)
  }

  /// Reads a state and removes its section, so that `checkAllTaken` can tell what nobody read.
  public mutating func take<S: SavedState>(_: S.Type, instance: String = "") throws(StateError) -> S {
    let state = try read(S.self, instance: instance)
    sections.removeAll { $0.name == S.section && $0.instance == instance }
    return state
  }

  /// Throws `unknownSections` if a section is left that is not optional: state that would be lost.
  public func checkAllTaken() throws(StateError) {
    let left = sections.filter { !$0.isOptional }.map(\.label)
    guard left.isEmpty else { throw .unknownSections(left) }
  }

  private func index(of name: String, _ instance: String) -> Int? {
    sections.firstIndex { $0.name == name && $0.instance == instance }
  }
}
