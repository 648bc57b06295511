public import LinuxIO

/// A migration stream or saved file of QEMU 7.2 to 10.0 without the memory's content: what machine it is of, and the state
/// of each of its devices by field.
public struct QEMUStream: Sendable {
  /// The machine type, such as `pc-q35-7.2`; empty where the stream does not tell.
  public let machine: String
  /// What else the stream tells of how it was made.
  public let configuration: [StreamField]
  /// The blocks of memory, in the order of the stream.
  public let blocks: [RAMBlock]
  /// Everything but the memory, in the order of the stream.
  public let sections: [StreamSection]
  /// The pages in the stream, of which one may come several times.
  public let pages: PageCounts
  /// The length of the stream in bytes.
  public let byteCount: UInt64

  /// The bytes up to the first section.
  let head: [UInt8]
  let ramID: UInt32?
  let description: StreamDescription?

  /// How many pages a stream has.
  public struct PageCounts: Equatable, Sendable {
    /// Of which the stream tells only the one byte that fills them.
    public var filled: UInt64 = 0
    /// Which it has whole.
    public var whole: UInt64 = 0
  }

  /// Reads a stream to its end, from a file, a pipe or a socket that blocks, and hands its memory to `ram`.
  ///
  /// It takes as much memory as the devices' state needs, however much the machine's memory is. When it throws, `ram` may have
  /// got part of the pages: whoever keeps them lets go of them.
  public static func read(
    _ file: consuming FileDescriptor, ram: inout some RAMVisitor & ~Copyable
  ) throws(QEMUStreamError) -> QEMUStream {
    var reader = StreamReader(StreamInput(file))
    return try reader.read(&ram)
  }

  /// Reads a stream without keeping anything of its memory, which is checked all the same.
  public static func read(_ file: consuming FileDescriptor) throws(QEMUStreamError) -> QEMUStream {
    var ram = NoRAM()
    return try read(file, ram: &ram)
  }

  /// Reads a stream that is in memory already.
  public static func read(
    _ bytes: [UInt8], ram: inout some RAMVisitor & ~Copyable
  ) throws(QEMUStreamError) -> QEMUStream {
    var reader = StreamReader(StreamInput(bytes))
    return try reader.read(&ram)
  }

  /// Reads a stream that is in memory already, without its memory.
  public static func read(_ bytes: [UInt8]) throws(QEMUStreamError) -> QEMUStream {
    var ram = NoRAM()
    return try read(bytes, ram: &ram)
  }
}

extension QEMUStream {
  /// Everything in the stream for people: machine, memory, sections, fields with their places.
  public func describe() -> String {
    var text = "stream of \(machine.isEmpty ? "an untold machine" : machine.printable), \(byteCount) bytes\n"
    for field in configuration { text += "  \(field.line)\n" }
    for block in blocks { text += "memory \(block.name.printable): \(block.byteCount) bytes\n" }
    text += "pages: \(pages.whole) whole, \(pages.filled) filled\n"
    for section in sections {
      text +=
        "\(section.label.printable): version \(section.version), \(section.body.count) bytes at \(section.bodyOffset)\n"
      for field in section.fields { text += "  \(field.line)\n" }
    }
    return text
  }

  /// The fields that are not the same in another stream: those of this one in order, then those that only the other has.
  ///
  /// Memory is not compared.
  public func differences(to other: QEMUStream) -> [StreamDifference] {
    var found: [StreamDifference] = []
    if machine != other.machine {
      found.append(
        StreamDifference(section: "configuration", field: "machine", old: .text(machine), new: .text(other.machine)))
    }
    found += Self.differences("configuration", configuration, other.configuration)
    let old = Self.byLabel(sections)
    let new = Self.byLabel(other.sections)
    for (label, fields) in old {
      guard let match = new.first(where: { $0.label == label }) else {
        found.append(StreamDifference(section: label, field: "", old: .text("present"), new: nil))
        continue
      }
      found += Self.differences(label, fields, match.fields)
    }
    for (label, _) in new where !old.contains(where: { $0.label == label }) {
      found.append(StreamDifference(section: label, field: "", old: nil, new: .text("present")))
    }
    return found
  }

  /// Sections by their label, with a number for each further part of the same one.
  private static func byLabel(_ sections: [StreamSection]) -> [(label: String, fields: [StreamField])] {
    var counts: [String: Int] = [:]
    return sections.map { section in
      let count = counts[section.label, default: 0]
      counts[section.label] = count + 1
      return (count == 0 ? section.label : "\(section.label) part \(count + 1)", section.fields)
    }
  }

  private static func differences(
    _ section: String, _ old: [StreamField], _ new: [StreamField]
  ) -> [StreamDifference] {
    let values = Dictionary(new.map { ($0.name, $0.value) }, uniquingKeysWith: { first, _ in first })
    let names = Set(old.map(\.name))
    let changed = old.filter { $0.value != values[$0.name] }.map {
      StreamDifference(section: section, field: $0.name, old: $0.value, new: values[$0.name])
    }
    let added = new.filter { !names.contains($0.name) }.map {
      StreamDifference(section: section, field: $0.name, old: nil, new: $0.value)
    }
    return changed + added
  }
}

extension StreamField {
  fileprivate var line: String { "\(name.printable) = \(value)  (byte \(offset))" }
}
