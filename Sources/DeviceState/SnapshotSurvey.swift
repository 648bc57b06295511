extension StateDocument {
  /// Reads as much as can be read of a snapshot, of whatever version and however damaged, and notes what cannot.
  ///
  /// A section is read even when its checksum is wrong. Where the bytes between sections make no sense, the next section
  /// whose checksum is right is looked for.
  public init(surveying bytes: [UInt8]) {
    var survey = SnapshotSurvey(bytes)
    survey.run()
    self = survey.document
  }
}

/// One pass over a snapshot that stops for nothing.
struct SnapshotSurvey {
  /// How many bytes are summed at most in looking for sections; a file can be made to look like many.
  private static let searchBudget = 256 << 20
  /// What looking at a place closely costs, in bytes summed.
  private static let searchCost = 1 << 10
  /// How many characters meanings have in all, about: a path may be as long as all names around a value.
  private static let meaningBudget = 64 << 20

  let bytes: [UInt8]
  var document = StateDocument(format: "no snapshot")
  /// How many more values may be read of the whole snapshot.
  var valuesLeft = StateLimits.valueCount
  private var announcedCount: Int?
  private var searched = 0
  /// The last search: after `start` there is no section before `next`, or none at all.
  private var lastSearch: (start: Int, next: Int?)?
  private var meaningLeft = Self.meaningBudget

  init(_ bytes: [UInt8]) {
    self.bytes = bytes
  }

  mutating func run() {
    guard let (position, count) = header() else { return }
    var end = position
    while bytes.count - end > 4 {
      guard document.sections.count < StateLimits.sectionCount else {
        return document.note("byte \(end): there are more than \(StateLimits.sectionCount) sections")
      }
      do throws(StateError) {
        end = try section(at: end)
      } catch {
        document.note("\(error)")
        guard let next = nextSection(after: end) else { break }
        document.note("bytes \(end) to \(next - 1) were passed over")
        end = next
      }
    }
    if let count, count != document.sections.count {
      document.note("header: \(count) sections are announced, \(document.sections.count) were found")
    }
    trailer(at: end)
  }

  // MARK: - Header and end

  /// - Returns: where the first section should be, and how many there should be, if that can be told.
  private mutating func header() -> (Int, Int?)? {
    let magic = SnapshotHeader.magic
    let differing = zip(bytes, magic).filter { $0 != $1 }.count + max(0, magic.count - bytes.count)
    guard differing <= magic.count / 2 else {
      document.note("\(StateError.notASnapshot)")
      return nil
    }
    if differing > 0 { document.note("header, byte 0: \(differing) of the 8 bytes of the magic are others") }
    document.format = "snapshot"
    var cursor = ByteCursor(magic + bytes.dropFirst(magic.count), section: "")
    do throws(StateError) {
      take(try SnapshotHeader(from: &cursor))
      return (cursor.position, announcedCount)
    } catch {
      document.note("\(error)")
      return (min(bytes.count, magic.count + 2), nil)
    }
  }

  private mutating func take(_ header: SnapshotHeader) {
    document.format = "snapshot, format \(header.formatVersion)"
    document.producer = header.producer
    document.producerVersion = header.producerVersion
    announcedCount = header.sectionCount
    if header.formatVersion != SnapshotHeader.formatVersion {
      document.note(
        "header: format \(header.formatVersion) is not known here; it was read as if it were format "
          + "\(SnapshotHeader.formatVersion)")
    }
    let names = 16 + 1 + header.producer.utf8.count
    let end = names + 1 + header.producerVersion.utf8.count
    span(0, 8, "magic \"VKSTATE\", 0x1A")
    span(8, 2, "header: \(header.byteCount) bytes")
    span(10, 2, "format \(header.formatVersion)")
    span(12, 4, "sections: \(header.sectionCount)")
    span(16, names - 16, "producer \(header.producer.quoted)")
    span(names, end - names, "version \(header.producerVersion.quoted)")
    if header.byteCount > end { span(end, header.byteCount - end, "header: of a newer format") }
  }

  private mutating func trailer(at end: Int) {
    guard bytes.count - end == 4 else {
      let left = bytes.count - end
      return document.note(
        left < 4 ? "byte \(end): the bytes end before the checksum" : "byte \(end): \(left) bytes are left over")
    }
    let expected = bytes[end...].reversed().reduce(0 as UInt32) { $0 << 8 | UInt32($1) }
    let found = CRC32C.checksum(bytes[..<end])
    if found != expected {
      document.note("\(StateError.checksumMismatch(section: "", expected: expected, found: found)), byte \(end)")
    }
    span(end, 4, "CRC-32C of everything before" + (found == expected ? "" : ", which is wrong"))
  }

  mutating func span(_ offset: Int, _ byteCount: Int, _ meaning: @autoclosure () -> String) {
    let meaning = meaningLeft > 0 ? meaning() : "…"
    meaningLeft -= meaning.utf8.count
    document.spans.append(StateDocument.Span(offset: offset, byteCount: byteCount, meaning: meaning))
  }

  // MARK: - Sections

  /// What stands before a section's payload.
  private struct Heading {
    let flags: UInt16
    let version: Int
    let byteCount: Int
    let checksum: UInt32
    let name: String
    let instance: String
    var payload: Int

    var label: String { SnapshotSection.label(name, instance) }

    init(_ cursor: inout ByteCursor) throws(StateError) {
      let headerByteCount = Int(try cursor.integer(UInt16.self))
      let outerEnd = try cursor.open(byteCount: max(0, headerByteCount - 2))
      flags = try cursor.integer(UInt16.self)
      version = Int(try cursor.integer(UInt32.self))
      byteCount = Int(try cursor.integer(UInt32.self))
      checksum = try cursor.integer(UInt32.self)
      name = try cursor.name()
      instance = try cursor.name()
      cursor.skipRest()
      try cursor.close(outerEnd)
      guard !name.isEmpty else { throw .invalidName(name: name) }
      payload = cursor.position
    }
  }

  /// - Returns: where it ends.
  private mutating func section(at start: Int) throws(StateError) -> Int {
    let heading = try heading(at: start, before: bytes.count - 4)
    let known = document.problems.count
    let announced = heading.payload + heading.byteCount
    var end = min(announced, max(heading.payload, bytes.count - 4))
    let found = CRC32C.checksum(bytes[heading.payload..<end])
    if found != heading.checksum {
      // A length that is wrong must not hide the sections behind it.
      if let next = nextSection(after: heading.payload), next < end { end = next }
      let error = StateError.checksumMismatch(section: heading.label, expected: heading.checksum, found: found)
      document.note("\(error), byte \(start + 12)")
    }
    if announced != end {
      let place = StatePlace(section: heading.label, field: "", offset: start + 8)
      let error = StateError.lengthBeyondEnd(place, byteCount: heading.byteCount, available: end - heading.payload)
      document.note("\(error)")
    }
    note(heading, start)
    let fields = readFields(of: heading.label, heading.payload..<end)
    document.sections.append(
      StateDocument.Section(
        name: heading.name, instance: heading.instance, version: heading.version, isOptional: heading.flags & 1 != 0,
        byteCount: end - heading.payload, fields: fields, isWhole: document.problems.count == known))
    return end
  }

  private func heading(at start: Int, before end: Int) throws(StateError) -> Heading {
    var cursor = ByteCursor(Array(bytes[start..<max(start, min(end, start + 544))]), section: "", origin: start)
    var heading = try Heading(&cursor)
    heading.payload += start
    return heading
  }

  private mutating func note(_ heading: Heading, _ start: Int) {
    let place = StatePlace(section: heading.label, field: "", offset: start + 2)
    if heading.flags & ~1 != 0 { document.note("\(StateError.unknownFlags(place, flags: heading.flags))") }
    if document.sections.contains(where: { $0.label == heading.label }) {
      document.note("\(StateError.duplicateSection(section: heading.label)), byte \(start)")
    }
    span(start, 2, "section header: \(heading.payload - start) bytes")
    span(start + 2, 2, "flags: \(heading.flags & 1 == 0 ? "not optional" : "optional")")
    span(start + 4, 4, "section version \(heading.version)")
    span(start + 8, 4, "payload: \(heading.byteCount) bytes")
    span(start + 12, 4, "CRC-32C of the payload")
    span(start + 16, heading.payload - start - 16, "section \(heading.label.printable)")
  }

  /// The next place at which there is a section whose checksum is right. No byte is gone over twice for it.
  private mutating func nextSection(after start: Int) -> Int? {
    if let (first, next) = lastSearch, start >= first, start < next ?? .max { return next }
    let next = search(after: start)
    lastSearch = (start, next)
    return next
  }

  private mutating func search(after start: Int) -> Int? {
    let end = bytes.count - 4
    for place in start + 1..<max(start + 1, end - 18)
    where (18...528).contains(Int(bytes[place]) | Int(bytes[place + 1]) << 8)
      && bytes[place + 2] <= 1 && bytes[place + 3] == 0
    {
      guard searched < Self.searchBudget else { return nil }
      searched += Self.searchCost
      guard let heading = try? heading(at: place, before: end), heading.byteCount <= end - heading.payload else {
        continue
      }
      searched += heading.byteCount
      let payload = bytes[heading.payload..<heading.payload + heading.byteCount]
      if CRC32C.checksum(payload) == heading.checksum { return place }
    }
    return nil
  }
}
