/// What a stream says of its own sections, behind them: the name, type and size of every field, save what is inside virtio.
struct StreamDescription {
  /// Its text, as it stands in the stream.
  let text: [UInt8]
  let offset: UInt64
  /// What it says of each section.
  let devices: [StreamSection.Key: JSON]

  init(_ text: [UInt8], offset: UInt64) throws(QEMUStreamError) {
    let json = try JSONParser.parse(text, origin: offset)
    let place = StreamPlace(section: "description", offset: offset)
    if let size = json["page_size"]?.integer, size != Int64(RAMPage.byteCount) {
      throw .unsupported(place, what: "a page of \(size) bytes")
    }
    guard let list = json["devices"]?.elements else { throw .invalid(place, reason: "no devices") }
    var devices: [StreamSection.Key: JSON] = [:]
    for content in list {
      guard let name = content["name"]?.text, let number = content["instance_id"]?.integer,
        let instance = UInt32(exactly: number)
      else { throw .invalid(place, reason: "a device without name or instance") }
      guard devices.updateValue(content, forKey: StreamSection.Key(name: name, instance: instance)) == nil else {
        throw .invalid(place, reason: "the device \(name.printable), instance \(instance), twice")
      }
    }
    self.text = text
    self.offset = offset
    self.devices = devices
  }

  /// The content of a section, field by field; nil for a section that is not described.
  ///
  /// - Parameter budget: what all sections of the stream share.
  func fields(
    of section: StreamSection, within budget: inout DescriptionBudget
  ) throws(QEMUStreamError) -> [StreamField]? {
    guard let content = devices[section.key] else { return nil }
    var cursor = FieldCursor(section.body, section: section.label, origin: section.bodyOffset)
    try cursor.structure(content, &budget)
    guard cursor.isAtEnd else {
      throw .contradictsDescription(cursor.place, reason: "\(cursor.remaining) bytes more")
    }
    return cursor.fields
  }

  /// Where in the text the size of a virtio section stands; nil when it is not there.
  func sizePlace(of section: StreamSection) -> Range<Int>? {
    let fields = devices[section.key]?["fields"]?.elements
    let field = fields?.first { $0["type"]?.text == "virtio" }
    guard case .integer(_, let place)? = field?["size"] else { return nil }
    return place
  }
}

extension FieldCursor {
  /// Reads what a description says of a device, a structure or a subsection: its fields, then its subsections.
  fileprivate mutating func structure(_ content: JSON, _ budget: inout DescriptionBudget) throws(QEMUStreamError) {
    for field in content["fields"]?.elements ?? [] { try described(field, &budget) }
    for part in content["subsections"]?.elements ?? [] {
      guard let expected = part["vmsd_name"]?.text else {
        throw .contradictsDescription(place, reason: "a subsection without a name")
      }
      try visit(expected, &budget)
      try need(1, expected)
      guard continues(after: 0, with: StreamPart.subsection), !isAtEnd else {
        throw .contradictsDescription(place, reason: "no subsection \(expected.printable)")
      }
      _ = try beginSubsection(expected)
      try group(expected) { (cursor) throws(QEMUStreamError) in try cursor.structure(part, &budget) }
    }
  }

  private func visit(_ name: String, _ budget: inout DescriptionBudget) throws(QEMUStreamError) {
    try budget.visit(nameByteCount: pathByteCount + name.utf8.count, at: place(name))
  }

  private mutating func beginSubsection(_ expected: String) throws(QEMUStreamError) {
    let start = place
    skip(1)
    guard try name(expected) == expected else {
      throw .contradictsDescription(start, reason: "another subsection than \(expected.printable)")
    }
    try integer(UInt32.self, expected + ".version")
  }

  private mutating func described(_ field: JSON, _ budget: inout DescriptionBudget) throws(QEMUStreamError) {
    guard let name = field["name"]?.text, let number = field["size"]?.integer, let size = Int(exactly: number),
      size >= 0
    else { throw .contradictsDescription(place, reason: "a field without name or size") }
    guard let count = field["array_len"]?.integer else {
      let index = field["index"]?.integer.map { "[\($0)]" } ?? ""
      return try element(name + index, size, field, &budget)
    }
    try visit(name, &budget)
    guard count >= 0, count <= Int64(StreamLimits.bodyByteCount) else {
      throw .contradictsDescription(place(name), reason: "an array of \(count)")
    }
    guard size > 0 || count == 0 else {
      throw .contradictsDescription(place(name), reason: "an array of elements without a byte")
    }
    if size == 1, field["struct"] == nil {
      try bytes(Int(count), name)
    } else {
      for index in 0..<Int(count) { try element("\(name)[\(index)]", size, field, &budget) }
    }
  }

  private mutating func element(
    _ name: String, _ size: Int, _ field: JSON, _ budget: inout DescriptionBudget
  ) throws(QEMUStreamError) {
    try visit(name, &budget)
    try need(size, name)
    let end = position + size
    if let content = field["struct"] {
      try group(name) { (cursor) throws(QEMUStreamError) in try cursor.structure(content, &budget) }
      guard position == end else {
        throw .contradictsDescription(place(name), reason: "a structure that is not \(size) bytes long")
      }
      return
    }
    let type = field["type"]?.text ?? ""
    switch (type.split(separator: " ").first ?? "", size) {
    case ("uint8", 1), ("uint16", 2), ("uint32", 4), ("uint64", 8), ("bool", 1): try unsigned(size, name)
    case ("int8", 1), ("int16", 2), ("int32", 4), ("int64", 8), ("timer", 8): try signed(size, name)
    default: try bytes(size, name)
    }
  }
}
