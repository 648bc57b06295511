public import GuestRAM

/// What a guest is like, told before its first page: all that a destination needs to take it or to refuse it.
public struct GuestDescription: Equatable, Sendable {
  /// Something that both sides have to agree on: its name, and a text that only they understand.
  public struct Note: Equatable, Sendable {
    /// At most 255 bytes of UTF-8.
    public var name: String
    /// At most 4096 bytes of UTF-8.
    public var text: String

    public init(name: String, text: String) {
      self.name = name
      self.text = text
    }

    static let mostName = 255
    static let mostText = 4096
  }

  /// The most notes that a description has.
  public static let mostNotes = 64

  /// The memory regions, in rising order; start and length are multiples of 4 KiB.
  public let regions: [GuestRange]
  /// Devices, features, versions: whatever has to fit. At most `mostNotes`.
  public let notes: [Note]

  /// The memory's size in bytes.
  public var memoryByteCount: UInt64 {
    regions.reduce(0) { $0 + $1.byteCount }
  }

  /// The text of the first note of this name.
  public func note(_ name: String) -> String? {
    notes.first { $0.name == name }?.text
  }

  init(regions: [GuestRange], notes: [Note]) throws(MigrationError) {
    try Self.check(regions)
    try Self.check(notes)
    self.regions = regions
    self.notes = notes
  }

  /// Regions are what `GuestMemory` takes, made of whole pages, and add up to a number of bytes.
  private static func check(_ regions: [GuestRange]) throws(MigrationError) {
    var free: UInt64 = 0
    var total: UInt64 = 0
    for (index, region) in regions.enumerated() {
      let (sum, overflow) = total.addingReportingOverflow(region.byteCount)
      guard region.start.rawValue % GuestPage.byteCount == 0, region.byteCount % GuestPage.byteCount == 0,
        region.byteCount > 0, region.byteCount <= UInt64(Int.max / 2), let end = region.end,
        region.start.rawValue >= free, !overflow, index < GuestMemory.mostRegions
      else { throw .invalidRegion(region) }
      free = end.rawValue
      total = sum
    }
  }

  private static func check(_ notes: [Note]) throws(MigrationError) {
    guard notes.count <= mostNotes else { throw .tooManyNotes(notes.count, most: mostNotes) }
    for note in notes
    where note.name.utf8.count > Note.mostName || note.text.utf8.count > Note.mostText {
      throw .noteTooLong(note.name)
    }
  }
}

extension GuestDescription {
  /// Throws unless memory has this layout and nobody has used it: what is not sent is taken as zero, which only unused
  /// memory is.
  func check(_ memory: GuestMemory) throws(MigrationError) {
    let layout = memory.regions.map(\.range)
    guard layout == regions else { throw .otherLayout(source: regions, destination: layout) }
    guard try memory.residentPages().isEmpty else { throw .unsuitableMemory }
  }
}

/// The unit in which memory is described, sent and compared, whatever the host's pages are.
enum GuestPage {
  static let byteCount: UInt64 = 4096
}

extension GuestDescription {
  var payload: [UInt8] {
    var writer = WireWriter()
    writer.append(UInt16(regions.count))
    for region in regions {
      writer.append(region.start.rawValue)
      writer.append(region.byteCount)
    }
    writer.append(UInt16(notes.count))
    for note in notes {
      writer.append(note.name, most: Note.mostName)
      writer.append(note.text, most: Note.mostText)
    }
    return writer.bytes
  }

  init(_ payload: [UInt8]) throws(MigrationError) {
    var reader = WireReader(payload)
    guard let regions = Self.regions(from: &reader), let notes = Self.notes(from: &reader), reader.remainingCount == 0
    else { throw .malformedFrame(.description) }
    try self.init(regions: regions, notes: notes)
  }

  private static func regions(from reader: inout WireReader) -> [GuestRange]? {
    guard let count: UInt16 = reader.integer() else { return nil }
    var regions: [GuestRange] = []
    for _ in 0..<count {
      guard let start: UInt64 = reader.integer(), let byteCount: UInt64 = reader.integer() else { return nil }
      regions.append(GuestRange(start: GuestAddress(start), byteCount: byteCount))
    }
    return regions.isEmpty ? nil : regions
  }

  private static func notes(from reader: inout WireReader) -> [Note]? {
    guard let count: UInt16 = reader.integer(), count <= mostNotes else { return nil }
    var notes: [Note] = []
    for _ in 0..<count {
      guard let name = reader.text(most: Note.mostName), let text = reader.text(most: Note.mostText) else { return nil }
      notes.append(Note(name: name, text: text))
    }
    return notes
  }
}
