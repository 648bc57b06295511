import DeviceState
import GuestRAM
import QEMUStream

/// Migration streams and saved files of QEMU.
extension StateFormat {
  static let qemu = StateFormat(form: .binary, isWritten: false) { bytes in
    bytes.starts(with: "QEVM".utf8)
  } survey: { bytes in
    StateDocument.ofQEMU { try QEMUStream.read(bytes) }
  } snapshot: { bytes in
    try QEMUStream.readWithMemory(bytes).snapshot()
  }
}

extension QEMUStream.WithMemory {
  /// The state of its devices in our own form.
  func snapshot() throws(QEMUStreamError) -> Snapshot { try stream.importState(memory: memory) }
}

extension StateDocument {
  /// What can be read of a stream.
  static func ofQEMU(_ read: () throws -> QEMUStream) -> StateDocument {
    do {
      return StateDocument(try read())
    } catch {
      var document = StateDocument(format: "stream of QEMU")
      document.note("\(error)")
      return document
    }
  }

  /// What a stream holds beside the guest's memory. Its fields have no nested records: a path is one name.
  init(_ stream: QEMUStream) {
    self.init(format: "stream of QEMU", producer: stream.machine)
    for section in stream.sections {
      sections.append(
        Section(
          name: section.name, instance: section.instance == 0 ? "" : "\(section.instance)",
          version: Int(section.version), byteCount: section.body.count,
          fields: section.fields.map { StateTree.Field(name: $0.name, type: $0.stateType, value: $0.stateTree) }))
      spans += section.fields.map { field in
        Span(
          offset: Int(clamping: field.offset), byteCount: field.byteCount,
          meaning: "\(section.label): \(field.name) = \(field.value)")
      }
    }
  }
}

extension StreamField {
  fileprivate var stateType: StateType {
    switch value {
    case .unsigned: .u64
    case .signed: .i64
    case .text: .string
    case .bytes: .bytes
    }
  }

  fileprivate var stateTree: StateTree {
    switch value {
    case .unsigned(let number): .unsigned(number)
    case .signed(let number): .signed(number)
    case .text(let text): .string(text)
    case .bytes(let bytes): .bytes(bytes)
    }
  }
}
