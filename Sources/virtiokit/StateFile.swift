import DeviceState
import Glibc
import LinuxIO
import Options
import QEMUStream

/// A format that saved state comes in. A reader of another one is one more of these.
struct StateFormat: Sendable {
  /// What a changed file is written in.
  let form: StateForm
  /// Whether that is the format itself.
  let isWritten: Bool
  /// Whether a file is likely to be of the format, from its first bytes.
  let recognizes: @Sendable ([UInt8]) -> Bool
  /// Reads as much of a file as can be read.
  let survey: @Sendable ([UInt8]) -> StateDocument
  /// Reads a file whole, or not at all.
  let snapshot: @Sendable ([UInt8]) throws -> Snapshot

  /// In the order in which they are tried; the last takes anything.
  static let all: [StateFormat] = [.json, .qemu, .snapshot]

  static let snapshot = StateFormat(form: .binary, isWritten: true) { _ in
    true
  } survey: { bytes in
    StateDocument(surveying: bytes)
  } snapshot: { bytes in
    try Snapshot(decoding: bytes)
  }

  static let json = StateFormat(form: .json, isWritten: true) { bytes in
    bytes.first { !$0.isSpace } == UInt8(ascii: "{")
  } survey: { bytes in
    do {
      var document = StateDocument(surveying: try Snapshot(json: text(bytes)).encoded())
      document.format = "JSON"
      document.spans = []
      return document
    } catch {
      var document = StateDocument(format: "JSON")
      document.note("\(error)")
      return document
    }
  } snapshot: { bytes in
    try Snapshot(json: text(bytes))
  }

  private static func text(_ bytes: [UInt8]) throws(StateFileError) -> String {
    guard let text = String(validating: bytes, as: UTF8.self) else { throw .notText }
    return text
  }
}

extension UInt8 {
  fileprivate var isSpace: Bool { [0x20, 0x0A, 0x0D, 0x09].contains(self) }
}

/// A file of saved state.
struct StateFile {
  /// The most bytes that are kept in memory: more than any snapshot of devices has.
  static let mostBytes = 256 << 20

  let path: String
  let format: StateFormat
  /// Nil for a file of QEMU, which holds all of a guest's memory and is read as it goes.
  private let kept: [UInt8]?

  /// - Parameter path: `-` is standard input.
  init(_ path: String) throws {
    self.path = path
    if path != "-", let start = try? InputFile.beginning(of: path), StateFormat.qemu.recognizes(start) {
      format = .qemu
      kept = nil
      return
    }
    let bytes = try Self.read(path)
    kept = bytes
    format = StateFormat.all.first { $0.recognizes(bytes) } ?? .snapshot
  }

  private static func read(_ path: String) throws -> [UInt8] {
    let bytes = try InputFile.bytes(of: path, upTo: mostBytes)
    guard bytes.count <= mostBytes else { throw StateFileError.tooLarge(path) }
    return bytes
  }

  /// All of the file.
  func bytes() throws -> [UInt8] { try kept ?? Self.read(path) }

  /// As much of it as can be read.
  func document() -> StateDocument {
    if let kept { return format.survey(kept) }
    return StateDocument.ofQEMU { try QEMUStream.read(FileDescriptor.open(path)) }
  }

  /// The snapshot, whole; throws what is wrong with it, with the file's name.
  func snapshot() throws -> Snapshot {
    if let kept, kept.isEmpty { throw StateFileError.refused(path, "the file is empty") }
    do {
      if let kept { return try format.snapshot(kept) }
      return try QEMUStream.readWithMemory(FileDescriptor.open(path)).snapshot()
    } catch {
      switch error as? QEMUStreamError {
      case .noDevice, .unknownMachine: throw StateFileError.unknown(path, "\(error)")
      default: throw StateFileError.refused(path, "\(error)")
      }
    }
  }

  /// Writes a snapshot whole or not at all. `-` is standard output.
  static func write(_ snapshot: Snapshot, as form: StateForm, to path: String) throws {
    guard path != "-" || form != .binary || isatty(1) == 0 else { throw StateFileError.noTerminal }
    let bytes = try form.bytes(of: snapshot)
    if path != "-" { return try FileDescriptor.replaceContents(of: path, with: bytes) }
    try Terminal.deliver(bytes)
  }
}

/// Why a file of saved state is of no use here.
enum StateFileError: Error, CustomStringConvertible {
  case tooLarge(String)
  case notText
  case refused(String, String)
  /// Nothing is wrong with it, but it is of a machine or of devices that are not known here.
  case unknown(String, String)
  case noSection(String)
  case wantsSectionAndField(String)
  /// A format that is read and not written.
  case notWritten(String)
  case noTerminal

  var description: String {
    switch self {
    case .tooLarge(let path):
      """
      \(path): more than \(StateFile.mostBytes >> 20) MiB are no device state, and a stream of QEMU that long is read from \
      a named file alone
      """
    case .notText: "the text is not UTF-8"
    case .refused(let path, let reason), .unknown(let path, let reason): "\(path): \(reason)"
    case .notWritten(let path):
      "\(path) is no snapshot and is left as it is: give --output the path of a new one"
    case .noTerminal: "a snapshot's bytes are nothing for a terminal: give --output a path, or have convert write JSON"
    case .noSection(let label): "there is no section \(label)"
    case .wantsSectionAndField(let text):
      "\"\(text)\" does not say what to set: write SECTION:FIELD=VALUE, such as balloon:targetPages=1024"
    }
  }
}

/// A form that a snapshot can be written in.
enum StateForm: String, CaseIterable, OptionValue, Sendable {
  case binary, json

  func bytes(of snapshot: Snapshot) throws -> [UInt8] {
    switch self {
    case .binary: snapshot.encoded()
    case .json: Array(try snapshot.indentedJSON.utf8)
    }
  }
}
