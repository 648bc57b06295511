extension [StreamSection] {
  /// Proves the sections against the stream's description of itself and gives them their fields.
  mutating func describe(by description: StreamDescription?) throws(QEMUStreamError) {
    if let description { try prove(description) }
    var budget = DescriptionBudget()
    var fieldCount = 0
    for (index, section) in enumerated() {
      let described = try description?.fields(of: section, within: &budget)
      let place = StreamPlace(section: section.label, offset: section.offset)
      if described == nil, description != nil, section.kind == .full {
        throw .contradictsDescription(place, reason: "it does not have the section")
      }
      let fields = try VirtioSection.fields(of: section) ?? described ?? [section.data]
      fieldCount += fields.count
      guard fieldCount <= StreamLimits.streamFieldCount else {
        throw .beyondLimit(place, value: UInt64(fieldCount), limit: UInt64(StreamLimits.streamFieldCount))
      }
      self[index].fields = fields
    }
  }

  /// Each section that is described has to be there.
  private func prove(_ description: StreamDescription) throws(QEMUStreamError) {
    let keys = Set(map(\.key))
    guard let stray = description.devices.keys.first(where: { !keys.contains($0) }) else { return }
    let place = StreamPlace(section: stray.name, offset: description.offset)
    throw .contradictsDescription(place, reason: "the section is not there")
  }
}

extension StreamSection {
  /// All that the section holds, as one field.
  fileprivate var data: StreamField {
    StreamField(name: "data", offset: bodyOffset, byteCount: body.count, value: .bytes(body))
  }
}
