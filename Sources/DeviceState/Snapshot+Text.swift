extension Snapshot {
  /// Everything in the snapshot for people, of whoever wrote it: sections, versions, lengths, fields.
  ///
  /// A section whose fields cannot be read says why in their place.
  public func describe() -> String {
    let version = producerVersion.isEmpty ? "" : " \(producerVersion.printable)"
    var text = "snapshot by \(producer.printable)\(version)\n"
    for section in sections {
      let flag = section.isOptional ? ", optional" : ""
      text += "\(section.label.printable): version \(section.version), \(section.payload.count) bytes\(flag)\n"
      text += section.lines.map { "  \($0)\n" }.joined()
    }
    return text
  }

  /// Everything in the snapshot as one JSON object, with nothing lost: the fields as `StateTree.json` has them, or the
  /// payload in hexadecimal digits and the error where they cannot be read.
  public var json: String {
    let sections = sections.map(\.json).joined(separator: ", ")
    return """
      {"producer": \(producer.quoted), "producerVersion": \(producerVersion.quoted), "sections": [\(sections)]}
      """
  }
}

extension SnapshotSection {
  private var fields: Result<StateTree, StateError> {
    Result { () throws(StateError) in
      var cursor = cursor
      return .record(try StateTree.fields(&cursor))
    }
  }

  fileprivate var lines: [String] {
    switch fields {
    case .success(let tree): tree.lines(indentation: "")
    case .failure(let error): ["cannot be read: \(error)"]
    }
  }

  fileprivate var json: String {
    let content =
      switch fields {
      case .success(let tree): "\"fields\": \(tree.json)"
      case .failure(let error): "\"payload\": \"\(payload.hex)\", \"error\": \("\(error)".quoted)"
      }
    return """
      {"name": \(name.quoted), "instance": \(instance.quoted), "version": \(version), "optional": \(isOptional), \(content)}
      """
  }
}
