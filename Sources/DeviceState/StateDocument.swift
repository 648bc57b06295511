/// What can be read of saved state, whoever wrote it and in whatever format: sections of named values, what each stretch
/// of bytes means, and what could not be read.
///
/// It is for looking at state. Devices are restored from a `Snapshot`, which is read whole or not at all.
public struct StateDocument: Equatable, Sendable {
  /// The state of one device, or of one part of it.
  public struct Section: Equatable, Sendable {
    public let name: String
    /// Which of several devices of a kind; empty when there is one.
    public let instance: String
    public let version: Int
    public let isOptional: Bool
    /// The bytes of its fields.
    public let byteCount: Int
    /// What could be read, in order.
    public let fields: [StateTree.Field]
    /// Whether that is all of it.
    public let isWhole: Bool

    public init(
      name: String, instance: String = "", version: Int, isOptional: Bool = false, byteCount: Int,
      fields: [StateTree.Field], isWhole: Bool = true
    ) {
      self.name = name
      self.instance = instance
      self.version = version
      self.isOptional = isOptional
      self.byteCount = byteCount
      self.fields = fields
      self.isWhole = isWhole
    }

    /// `name` or `name/instance`.
    public var label: String { SnapshotSection.label(name, instance) }

    /// The value of a field at the top, or nil.
    public subscript(name: String) -> StateTree? { fields.first { $0.name == name }?.value }
  }

  /// A stretch of the file and what it means.
  public struct Span: Equatable, Sendable {
    public let offset: Int
    public let byteCount: Int
    /// The path of a field and its value, or what else it is.
    public let meaning: String

    public init(offset: Int, byteCount: Int, meaning: String) {
      self.offset = offset
      self.byteCount = byteCount
      self.meaning = meaning
    }
  }

  /// The most problems that are kept; of a file that is all damage the first tell enough.
  public static let mostProblems = 256

  /// The format in words, such as `snapshot, format 1`.
  public var format: String
  /// The program that wrote it, and its version, as far as the file tells.
  public var producer: String
  public var producerVersion: String
  public var sections: [Section] = []
  /// What could not be read or is not as it should be: each a sentence with its place. Empty for a file that is whole.
  public private(set) var problems: [String] = []
  /// In rising order of offset, without overlaps; bytes between them mean nothing to the reader.
  public var spans: [Span] = []

  public init(format: String, producer: String = "", producerVersion: String = "") {
    self.format = format
    self.producer = producer
    self.producerVersion = producerVersion
  }

  /// Notes a problem, unless there are too many already.
  public mutating func note(_ problem: String) {
    if problems.count < Self.mostProblems { problems.append(problem) }
  }
}

extension StateDocument {
  /// Everything in it for people.
  ///
  /// - Parameter remark: what to say of a value beside it.
  public func text(_ remark: (Section, _ path: String, StateTree) -> String? = { _, _, _ in nil }) -> String {
    let writer = producer.isEmpty ? "" : " by \(producer.printable) \(producerVersion.printable)"
    var text = "\(format)\(writer)".trimmingSpaces + "\n"
    for section in sections {
      let flag = section.isOptional ? ", optional" : ""
      text += "\(section.label.printable): version \(section.version), \(section.byteCount) bytes\(flag)\n"
      let lines = StateTree.record(section.fields).lines(indentation: "  ") { remark(section, $0, $1) }
      text += lines.map { $0 + "\n" }.joined()
    }
    if !problems.isEmpty { text += "problems:\n" + problems.map { "  \($0)\n" }.joined() }
    return text
  }

  /// Everything in it as JSON, in the form that `Snapshot.init(json:)` reads when there are no problems.
  public var json: String {
    var members = ["\"producer\": \(producer.quoted)", "\"producerVersion\": \(producerVersion.quoted)"]
    members.append("\"sections\": [\(sections.map(\.json).joined(separator: ", "))]")
    if !problems.isEmpty { members.append("\"problems\": [\(problems.map(\.quoted).joined(separator: ", "))]") }
    return "{\(members.joined(separator: ", "))}"
  }
}

extension StateDocument.Section {
  fileprivate var json: String {
    """
    {"name": \(name.quoted), "instance": \(instance.quoted), "version": \(version), "optional": \(isOptional), \
    "fields": \(StateTree.record(fields).json)}
    """
  }
}

extension String {
  fileprivate var trimmingSpaces: String {
    var text = self
    while text.last == " " { text.removeLast() }
    return text
  }
}
