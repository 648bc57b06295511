import DeviceState
import Options

/// `virtiokit state edit`
struct StateEditCommand: Command {
  static let name = "edit"
  static let summary = "Changes fields of a snapshot and writes it with its checksums made right."
  static let discussion = """
    What was changed is printed. For larger changes convert to JSON, edit that, and convert back. Only the form is looked \
    after; whether a device can be in such a state, check tells. \(StateOutcome.explanation)
    """
  static let examples = [
    Example(
      "balloon.state --set balloon:targetPages=1024 --output new.state", "Have a restored balloon aim at 4 MiB."),
    Example("net.state --set 'net-host:queues[index=0].isEnabled=false' --in-place", "Disable a queue."),
    Example("blk.state --remove guest-memory --output small.state", "Leave a section out."),
  ]

  var file = ""
  var changes: [String] = []
  var removed: [String] = []
  var output: String?
  var inPlace = false

  mutating func declare(in options: inout OptionTable) {
    options.repeated("set", &changes, "what to change", placeholder: "SECTION:FIELD=VALUE")
    options.repeated("remove", &removed, "a section to leave out", placeholder: "SECTION")
    options.value("output", &output, "where to write the new snapshot; - is standard output", placeholder: "PATH")
    options.flag("in-place", &inPlace, "write it in place of the old one, whole or not at all")
    options.operand("FILE", &file, "a snapshot, as bytes or as JSON; the new one has the same form")
  }

  func validate() throws(OptionError) {
    if output == nil, !inPlace { throw .missingOption("--output", placeholder: "PATH") }
    if let output, inPlace {
      throw .rejected(option: "--output", value: output, reason: "--in-place is given too")
    }
    if inPlace, file == "-" { throw .missingOption("--output", placeholder: "PATH") }
    if changes.isEmpty, removed.isEmpty { throw .missingOption("--set", placeholder: "SECTION:FIELD=VALUE") }
  }

  func run() throws -> StateOutcome {
    let source = try StateFile(file)
    guard source.format.isWritten || !inPlace else { throw StateFileError.notWritten(file) }
    let old = try source.snapshot()
    var sections = old.sections
    for label in removed {
      guard sections.contains(where: { $0.label == label }) else { throw StateFileError.noSection(label) }
      sections.removeAll { $0.label == label }
    }
    for change in changes { try Self.apply(change, to: &sections) }
    var new = Snapshot(producer: old.producer, producerVersion: old.producerVersion)
    for section in sections { try new.add(section) }
    try StateFile.write(new, as: source.format.form, to: output ?? file)
    let before = StateDocument(surveying: old.encoded())
    let lines = before.differences(to: StateDocument(surveying: new.encoded())).map(StateDiffCommand.line)
    if output != "-" { try Terminal.deliver(lines.joined()) }
    return .fine
  }

  private static func apply(_ change: String, to sections: inout [SnapshotSection]) throws {
    let sides = change.split(separator: "=", maxSplits: 1, omittingEmptySubsequences: false)
    // A path may have an equals sign of its own: queues[index=0].size=8.
    guard let colon = change.firstIndex(of: ":"), sides.count == 2,
      let equals = change[colon...].indexOutsideBrackets(of: "=")
    else { throw StateFileError.wantsSectionAndField(change) }
    let label = String(change[..<colon])
    guard let index = sections.firstIndex(where: { $0.label == label }) else { throw StateFileError.noSection(label) }
    let section = sections[index]
    let path = String(change[change.index(after: colon)..<equals])
    let tree = try StateTree(decoding: section.payload)
      .setting(path, to: String(change[change.index(after: equals)...]))
    sections[index] = try SnapshotSection(
      name: section.name, instance: section.instance, version: section.version, isOptional: section.isOptional,
      payload: tree.payload())
  }
}

extension Substring {
  fileprivate func indexOutsideBrackets(of wanted: Character) -> Index? {
    var depth = 0
    return indices.first { index in
      switch self[index] {
      case "[": depth += 1
      case "]": depth -= 1
      case wanted where depth == 0: return true
      default: break
      }
      return false
    }
  }
}

/// `virtiokit state convert`
struct StateConvertCommand: Command {
  static let name = "convert"
  static let summary = "Writes a snapshot in another form, or for an older reader."
  static let discussion = """
    JSON and bytes say exactly the same: there and back gives the same file. A section that is written for an older reader \
    is refused if it holds what that one cannot carry. \(StateOutcome.explanation)
    """
  static let examples = [
    Example("net.state --to json --output net.json", "Have a text to edit or to review."),
    Example("net.json --to binary --output net.state", "Make a snapshot of it again."),
    Example("net.state --as net=1 --output old.state", "Write version 1 of the card's section."),
    Example("broken.state --salvage --output rest.state", "Keep the sections that are whole."),
  ]

  var file = ""
  var form = StateForm.binary
  var versions: [String] = []
  var salvages = false
  var output = "-"

  mutating func declare(in options: inout OptionTable) {
    options.value("to", &form, "the form of the new file")
    options.repeated("as", &versions, "the version to write a section in", placeholder: "SECTION=VERSION")
    options.flag("salvage", &salvages, "leave out what cannot be read instead of refusing the file")
    options.value("output", &output, "where to write it; - is standard output", placeholder: "PATH")
    options.operand("FILE", &file, "a snapshot, as bytes or as JSON")
  }

  func validate() throws(OptionError) {
    for version in versions where Self.parse(version) == nil {
      throw .rejected(option: "--as", value: version, reason: "write the section's name, =, and a version from 1 on")
    }
  }

  private static func parse(_ text: String) -> (label: String, version: Int)? {
    let parts = text.split(separator: "=", omittingEmptySubsequences: false)
    guard parts.count == 2, !parts[0].isEmpty, let version = Int(parts[1]), version >= 1 else { return nil }
    return (String(parts[0]), version)
  }

  func run() throws -> StateOutcome {
    let source = try StateFile(file)
    var outcome = StateOutcome.fine
    var snapshot = salvages ? try Self.rest(of: source, &outcome) : try source.snapshot()
    for (label, version) in versions.compactMap(Self.parse) {
      snapshot = try Self.rewritten(snapshot, label, version)
    }
    try StateFile.write(snapshot, as: form, to: output)
    return outcome
  }

  /// What of a damaged file is whole.
  private static func rest(of source: StateFile, _ outcome: inout StateOutcome) throws -> Snapshot {
    let document = source.document()
    for problem in document.problems { Terminal.complain(problem) }
    if !document.problems.isEmpty { outcome = .different }
    var snapshot = Snapshot(producer: document.producer, producerVersion: document.producerVersion)
    for section in document.sections where section.version >= 1 {
      guard section.isWhole, let payload = try? StateTree.record(section.fields).payload() else {
        Terminal.complain("section \(section.label) is left out")
        continue
      }
      try snapshot.add(
        SnapshotSection(
          name: section.name, instance: section.instance, version: section.version, isOptional: section.isOptional,
          payload: payload))
    }
    return snapshot
  }

  private static func rewritten(_ old: Snapshot, _ label: String, _ version: Int) throws -> Snapshot {
    guard old.sections.contains(where: { $0.label == label }) else { throw StateFileError.noSection(label) }
    var new = Snapshot(producer: old.producer, producerVersion: old.producerVersion)
    for section in old.sections {
      guard section.label == label else {
        try new.add(section)
        continue
      }
      guard let known = KnownState.all.first(where: { $0.section == section.name }) else {
        throw StateFileError.noSection(label)
      }
      try new.add(
        SnapshotSection(
          name: section.name, instance: section.instance, version: version, isOptional: section.isOptional,
          payload: known.encoded(old, section.instance, version)))
    }
    return new
  }
}
