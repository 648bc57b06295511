/// Reads a stream part by part, from its first byte to its last.
struct StreamReader: ~Copyable {
  /// A section that has begun, by its number.
  struct Header {
    let name: String
    let instance: UInt32
    let version: UInt32
    var isOpen: Bool
  }

  var input: StreamInput
  var blocks: [RAMBlock] = []
  var pages = QEMUStream.PageCounts()
  /// Which block the last page was of.
  var lastBlock: Int?

  /// Whether each block's pages follow it, each at its place, as QEMU since 9.0 writes files on request.
  private(set) var hasMappedRAM = false
  private(set) var machine = ""
  private var configuration: [StreamField] = []
  private var head: [UInt8] = []
  private var headers: [UInt32: Header] = [:]
  private var keys: Set<StreamSection.Key> = []
  private var sections: [StreamSection] = []
  private var bodiesByteCount = 0
  private var ramID: UInt32?

  init(_ input: consuming StreamInput) {
    self.input = input
  }

  mutating func read(_ ram: inout some RAMVisitor & ~Copyable) throws(QEMUStreamError) -> QEMUStream {
    try readHead()
    while try readPart(&ram) {}
    if ramID != nil { try ram.end() }
    let description = try readDescription()
    try sections.describe(by: description)
    return QEMUStream(
      machine: machine, configuration: configuration, blocks: blocks, sections: sections, pages: pages,
      byteCount: input.offset, head: head, ramID: ramID, description: description)
  }

  // MARK: - The beginning

  private mutating func readHead() throws(QEMUStreamError) {
    input.section = "header"
    input.recorded = []
    let magic = try input.integer(UInt32.self, "magic")
    if magic == StreamPart.multifdMagic {
      throw .unsupported(StreamPlace(section: "header", offset: 0), what: "one of several channels (multifd)")
    }
    guard magic == StreamPart.magic else { throw .notAStream(magic: magic) }
    let place = input.place("version")
    let version = try input.integer(UInt32.self, "version")
    guard version == StreamPart.version else {
      throw .unsupportedVersion(place, version: version, known: StreamPart.version)
    }
    if try input.peek() == StreamPart.configuration { try readConfiguration() }
    head = input.recorded ?? []
    input.recorded = nil
  }

  private mutating func readConfiguration() throws(QEMUStreamError) {
    input.section = "configuration"
    _ = try input.integer(UInt8.self, "")
    let place = input.place("machine")
    let length = try input.integer(UInt32.self, "machine")
    guard length <= StreamLimits.machineByteCount else {
      throw .beyondLimit(place, value: UInt64(length), limit: UInt64(StreamLimits.machineByteCount))
    }
    let bytes = try input.bytes(Int(length), "machine")
    guard let name = String(validating: bytes, as: UTF8.self) else {
      throw .invalid(place, reason: "a name that is not UTF-8")
    }
    machine = name
    while try input.peek() == StreamPart.subsection { try readConfigurationPart() }
  }

  private mutating func readConfigurationPart() throws(QEMUStreamError) {
    let place = input.place()
    let start = input.recorded?.count ?? 0
    _ = try input.integer(UInt8.self, "")
    let name = try input.name("")
    _ = try input.integer(UInt32.self, name + ".version")
    switch name {
    case "configuration/target-page-bits":
      let bits = try note("target-page-bits", 4) { (input) throws(QEMUStreamError) in
        .unsigned(UInt64(try input.integer(UInt32.self, "target-page-bits")))
      }
      guard bits == .unsigned(12) else { throw .unsupported(place, what: "a page of 2 to the \(bits) bytes") }
    case "configuration/capabilities":
      try readCapabilities()
      // The only one there can be tells how the pages come, which is the writer's own choice.
      input.recorded?.removeSubrange(start...)
    case "configuration/uuid":
      _ = try note("uuid", 16) { (input) throws(QEMUStreamError) in .bytes(try input.bytes(16, "uuid")) }
    default: throw .unsupported(place, what: "the subsection \(name.printable)")
    }
  }

  private mutating func readCapabilities() throws(QEMUStreamError) {
    let place = input.place("capabilities")
    let count = try input.integer(UInt32.self, "capabilities")
    guard count <= 64 else { throw .beyondLimit(place, value: UInt64(count), limit: 64) }
    for index in 0..<count {
      let place = input.place("capabilities[\(index)]")
      let name = try input.name("capabilities[\(index)]")
      guard name == "mapped-ram" else { throw .unsupported(place, what: "the capability \(name.printable)") }
      hasMappedRAM = true
      let length = 1 + name.utf8.count
      configuration.append(
        StreamField(name: "capabilities[\(index)]", offset: place.offset, byteCount: length, value: .text(name)))
    }
  }

  private mutating func note(
    _ name: String, _ byteCount: Int, _ read: (inout StreamInput) throws(QEMUStreamError) -> StreamField.Value
  ) throws(QEMUStreamError) -> StreamField.Value {
    let offset = input.offset
    let value = try read(&input)
    configuration.append(StreamField(name: name, offset: offset, byteCount: byteCount, value: value))
    return value
  }

  // MARK: - Parts

  /// - Returns: false at the end of the stream's sections.
  private mutating func readPart(_ ram: inout some RAMVisitor & ~Copyable) throws(QEMUStreamError) -> Bool {
    input.section = ""
    let place = input.place()
    switch try input.integer(UInt8.self, "") {
    case StreamPart.start: try beginSection(.start, place, &ram)
    case StreamPart.full: try beginSection(.full, place, &ram)
    case StreamPart.more: try continueSection(.part, place, &ram)
    case StreamPart.last: try continueSection(.end, place, &ram)
    case StreamPart.command: try readCommand(place)
    case StreamPart.end: return false
    case let type: throw .unknownPart(place, type: type)
    }
    return true
  }

  private mutating func beginSection(
    _ kind: StreamSection.Kind, _ place: StreamPlace, _ ram: inout some RAMVisitor & ~Copyable
  ) throws(QEMUStreamError) {
    let id = try input.integer(UInt32.self, "id")
    let name = try input.name("name")
    guard !name.isEmpty else { throw .invalid(place, reason: "a section without a name") }
    input.section = name
    let instance = try input.integer(UInt32.self, "instance")
    let version = try input.integer(UInt32.self, "version")
    guard headers[id] == nil else { throw .invalid(place, reason: "a second section of the number \(id)") }
    guard keys.insert(StreamSection.Key(name: name, instance: instance)).inserted else {
      throw .invalid(place, reason: "a second section \(name.printable), instance \(instance)")
    }
    headers[id] = Header(name: name, instance: instance, version: version, isOpen: kind == .start)
    guard name == "ram" else { return try readBody(kind, id, place) }
    guard kind == .start else { throw .invalid(place, reason: "memory that is not sent in parts") }
    guard version == 4 else { throw .unsupportedVersion(place, version: version, known: 4) }
    ramID = id
    try readBlocks(&ram)
    try readPages(&ram)
    try readFooter(id)
  }

  private mutating func continueSection(
    _ kind: StreamSection.Kind, _ place: StreamPlace, _ ram: inout some RAMVisitor & ~Copyable
  ) throws(QEMUStreamError) {
    let id = try input.integer(UInt32.self, "id")
    guard let header = headers[id], header.isOpen else {
      throw .invalid(place, reason: "a part of the section \(id), which has not begun or is over")
    }
    headers[id]?.isOpen = kind == .part
    input.section = header.name
    guard id == ramID else { return try readBody(kind, id, place) }
    try readPages(&ram)
    try readFooter(id)
  }

  private mutating func readFooter(_ id: UInt32) throws(QEMUStreamError) {
    let place = input.place("footer")
    guard try input.integer(UInt8.self, "footer") == StreamPart.footer,
      try input.integer(UInt32.self, "footer") == id
    else { throw .invalid(place, reason: "no footer of the section \(id)") }
  }

  private mutating func readCommand(_ place: StreamPlace) throws(QEMUStreamError) {
    input.section = "command"
    let number = try input.integer(UInt16.self, "number")
    let length = try input.integer(UInt16.self, "length")
    // To open a way back, to ask whether it works, to announce that the guest moves: nothing of the machine's state.
    guard let expected: UInt16 = [1: 0, 2: 4, 11: 0][number] else {
      let names: [UInt16: String] = [
        3: "postcopy", 4: "postcopy", 5: "postcopy", 6: "postcopy", 7: "a packaged stream", 8: "COLO",
      ]
      throw .unsupported(place, what: names[number] ?? "the command \(number)")
    }
    guard length == expected else { throw .invalid(place, reason: "a command \(number) of \(length) bytes") }
    _ = try input.bytes(Int(length), "data")
  }

  // MARK: - Bodies

  /// Reads a body of which nothing tells the length: up to a footer of the section that another part follows.
  ///
  /// The description behind the stream proves afterwards that this was it.
  private mutating func readBody(
    _ kind: StreamSection.Kind, _ id: UInt32, _ place: StreamPlace
  ) throws(QEMUStreamError) {
    guard let header = headers[id] else { return }
    guard sections.count < StreamLimits.sectionCount else {
      throw .beyondLimit(place, value: UInt64(sections.count) + 1, limit: UInt64(StreamLimits.sectionCount))
    }
    let start = input.offset
    let length = try footerDistance(id)
    bodiesByteCount += length
    guard bodiesByteCount <= StreamLimits.bodiesByteCount else {
      throw .beyondLimit(place, value: UInt64(bodiesByteCount), limit: UInt64(StreamLimits.bodiesByteCount))
    }
    let body = try input.bytes(length, "")
    try readFooter(id)
    sections.append(
      StreamSection(
        kind: kind, id: id, name: header.name, instance: header.instance, version: header.version,
        offset: place.offset, bodyOffset: start, body: body))
  }

  private mutating func footerDistance(_ id: UInt32) throws(QEMUStreamError) -> Int {
    var searched = 0
    while true {
      while let distance = input.distance(to: StreamPart.footer, from: searched) {
        if try isFooter(at: distance, id) { return distance }
        searched = distance + 1
      }
      searched = max(searched, input.buffered)
      guard searched <= StreamLimits.bodyByteCount else {
        throw .beyondLimit(input.place(), value: UInt64(searched), limit: UInt64(StreamLimits.bodyByteCount))
      }
      guard try input.fill(searched + 1) else {
        throw .truncated(StreamPlace(section: input.section, offset: input.offset + UInt64(input.buffered)), missing: 5)
      }
    }
  }

  private mutating func isFooter(at distance: Int, _ id: UInt32) throws(QEMUStreamError) -> Bool {
    guard try input.fill(distance + 6) else { return false }
    for place in 0..<4
    where input.ahead(distance + 1 + place) != UInt8(truncatingIfNeeded: id >> (24 - 8 * UInt32(place))) {
      return false
    }
    switch input.ahead(distance + 5) {
    case StreamPart.start, StreamPart.full: return try isHeader(at: distance + 6)
    case StreamPart.end: return try isEnd(at: distance + 6)
    case StreamPart.more, StreamPart.last, StreamPart.command: return true
    default: return false
    }
  }

  /// Whether the stream is over there, or its description begins. Zeros behind a byte that looks like a footer are common.
  private mutating func isEnd(at distance: Int) throws(QEMUStreamError) -> Bool {
    guard try input.fill(distance + 1) else { return true }
    guard input.ahead(distance) == StreamPart.description else { return false }
    return try !input.fill(distance + 6) || input.ahead(distance + 5) == UInt8(ascii: "{")
  }

  /// Whether a section's number and name stand there.
  private mutating func isHeader(at distance: Int) throws(QEMUStreamError) -> Bool {
    guard try input.fill(distance + 5) else { return false }
    let length = Int(input.ahead(distance + 4))
    guard length > 0, try input.fill(distance + 5 + length) else { return false }
    return (0..<length).allSatisfy { (0x20...0x7E).contains(input.ahead(distance + 5 + $0)) }
  }

  // MARK: - The end

  private mutating func readDescription() throws(QEMUStreamError) -> StreamDescription? {
    input.section = "description"
    // A snapshot of a guest that runs on has no last part of memory: whether all pages came is looked at by itself.
    if let open = headers.first(where: { $0.value.isOpen && $0.key != ramID }) {
      throw .invalid(input.place(), reason: "the section \(open.value.name.printable) has not ended")
    }
    guard let type = try input.peek() else { return nil }
    guard type == StreamPart.description else { throw .trailingBytes(input.place()) }
    _ = try input.integer(UInt8.self, "")
    let place = input.place("length")
    let length = try input.integer(UInt32.self, "length")
    guard length <= StreamLimits.descriptionByteCount else {
      throw .beyondLimit(place, value: UInt64(length), limit: UInt64(StreamLimits.descriptionByteCount))
    }
    let start = input.offset
    let text = try input.bytes(Int(length), "text")
    guard try input.isAtEnd() else { throw .trailingBytes(input.place()) }
    return try StreamDescription(text, offset: start)
  }
}
