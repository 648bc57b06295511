extension Snapshot {
  /// Everything in the snapshot for people, of whoever wrote it: sections, versions, lengths, fields.
  ///
  /// A section whose fields cannot be read says why in their place.
  public func describe() -> String {
    let version = producerVersion.isEmpty ? "" : " \(producerVersion.printable)"
    var text = "snapshot by \(producer.printable)\(version)\n"
    var valuesLeft = StateLimits.valueCount
    for section in sections {
      let flag = section.isOptional ? ", optional" : ""
      text += "\(section.label.printable): version \(section.version), \(section.payload.count) bytes\(flag)\n"
      text += section.lines(&valuesLeft).map { "  \($0)\n" }.joined()
    }
    return text
  }

  /// Everything in the snapshot as one JSON object, with nothing lost: the fields as `StateTree.json` has them, or the
  /// payload in hexadecimal digits and the error where they cannot be read.
  public var json: String {
    var valuesLeft = StateLimits.valueCount
    let sections = sections.map { $0.json(&valuesLeft) }.joined(separator: ", ")
    return """
      {"producer": \(producer.quoted), "producerVersion": \(producerVersion.quoted), "sections": [\(sections)]}
      """
  }
}

extension SnapshotSection {
  /// - Parameter valuesLeft: how many values the snapshot may still have.
  private func fields(_ valuesLeft: inout Int) -> Result<StateTree, StateError> {
    Result { () throws(StateError) in
      var cursor = cursor
      cursor.valuesLeft = valuesLeft
      defer { valuesLeft = cursor.valuesLeft }
      return .record(try StateTree.fields(&cursor))
    }
  }

  fileprivate func lines(_ valuesLeft: inout Int) -> [String] {
    switch fields(&valuesLeft) {
    case .success(let tree): tree.lines(indentation: "")
    case .failure(let error): ["cannot be read: \(error)"]
    }
  }

  fileprivate func json(_ valuesLeft: inout Int) -> String {
    let content =
      switch fields(&valuesLeft) {
      case .success(let tree): "\"fields\": \(tree.json)"
      case .failure(let error): "\"payload\": \"\(payload.hex)\", \"error\": \("\(error)".quoted)"
      }
    return """
      {"name": \(name.quoted), "instance": \(instance.quoted), "version": \(version), "optional": \(isOptional), \(content)}
      """
  }
}
