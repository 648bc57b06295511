public import GuestRAM
public import LinuxIO

/// Keeps the guest's memory out of a stream. Other blocks, as ROMs and a display's memory, are left out.
///
/// Pages that hold only zeros are not touched, so that they take up no memory.
public struct RAMLoader: RAMVisitor {
  private let wantedLayout: RAMLayout?
  private let blockName: String?
  private let mostByteCount: UInt64
  private var destination: (layout: RAMLayout, block: Int, memory: GuestMemory)?
  /// A bit for each page of the block: whether it came, and whether it holds anything but zeros.
  private var known: [UInt64] = []
  private var written: [UInt64] = []
  private static let runByteCount = 1 << 20
  private var run: (start: GuestAddress, bytes: [UInt8]) = (GuestAddress(0), [])

  /// - Parameters:
  ///   - layout: where the memory is for the guest; nil for what is usual for the machine.
  ///   - block: the memory's name in the stream, where it has one of its own (`memory-backend=`) and the layout is usual.
  ///   - mostByteCount: the longest memory that is loaded. What is kept of its pages grows with it, whether they come or not.
  public init(layout: RAMLayout? = nil, block: String? = nil, mostByteCount: UInt64 = StreamLimits.loadedByteCount) {
    wantedLayout = layout
    blockName = block
    self.mostByteCount = mostByteCount
  }

  /// The guest's memory, whole once the stream has been read.
  public var memory: GuestMemory? { destination?.memory }
  public var layout: RAMLayout? { destination?.layout }

  public mutating func begin(_ block: RAMBlock, at index: Int, machine: String) throws(QEMUStreamError) {
    let chosen = wantedLayout?.block ?? blockName
    let name = if let chosen { chosen } else { try RAMLayout.usualBlock(of: machine) }
    guard block.name == name else { return }
    guard block.byteCount <= mostByteCount else {
      throw .cannotCarry(
        device: name, reason: "a memory of \(block.byteCount) bytes, where at most \(mostByteCount) are loaded")
    }
    let layout = if let wantedLayout { wantedLayout } else { try RAMLayout.usual(machine: machine, block: block) }
    destination = (layout, index, try layout.makeMemory())
    let pages = block.byteCount / UInt64(RAMPage.byteCount)
    known = [UInt64](repeating: 0, count: Int((pages + 63) / 64))
    written = known
    // What is beyond the last page does not come.
    if pages % 64 != 0 { known[known.count - 1] = ~0 << (pages % 64) }
  }

  public mutating func visit(_ page: RAMPage) throws(QEMUStreamError) {
    guard let destination, page.block == destination.block else { return }
    let number = page.offset / UInt64(RAMPage.byteCount)
    let (word, bit) = (Int(number / 64), UInt64(1) << (number % 64))
    known[word] |= bit
    guard let address = destination.layout.address(of: page.offset) else { return }
    let bytes: [UInt8]
    switch page.content {
    case .filled(0) where written[word] & bit == 0: return
    case .filled(let byte): bytes = [UInt8](repeating: byte, count: RAMPage.byteCount)
    case .bytes(let content): bytes = content
    }
    // Zeros are in sparse files, too, which may be much shorter than they look.
    let isZero = bytes.allSatisfy { $0 == 0 }
    guard !isZero || written[word] & bit != 0 else { return }
    written[word] = isZero ? written[word] & ~bit : written[word] | bit
    if address.rawValue != run.start.rawValue + UInt64(run.bytes.count) || run.bytes.count >= Self.runByteCount {
      try storeRun()
      run.start = address
    }
    run.bytes += bytes
  }

  /// Stores what has come of pages that follow each other.
  ///
  /// It goes into the memory's file and not through its mapping, where each page would cost a fault.
  private mutating func storeRun() throws(QEMUStreamError) {
    guard !run.bytes.isEmpty, let memory else { return }
    let range = GuestRange(start: run.start, byteCount: UInt64(run.bytes.count))
    let region = memory.regions.first { $0.range.overlap(range) == range }
    do throws(LinuxError) {
      if let region, let file = try region.duplicateFile() {
        let offset = region.fileOffset + (run.start.rawValue - region.range.start.rawValue)
        try file.writeAll(run.bytes, at: Int(offset))
        run.bytes.removeAll(keepingCapacity: true)
        return
      }
    } catch {
      throw .system(error)
    }
    do throws(GuestMemoryError) { try memory.write(bytes: run.bytes, at: run.start) } catch { throw .memory(error) }
    run.bytes.removeAll(keepingCapacity: true)
  }

  public mutating func end() throws(QEMUStreamError) {
    try storeRun()
    guard destination != nil else { throw .missing("memory of the guest: no block of the expected name") }
    let missing = known.reduce(0) { $0 + (~$1).nonzeroBitCount }
    guard missing == 0 else {
      throw .missingPages(block: destination?.layout.block ?? "", count: UInt64(missing))
    }
  }
}

extension QEMUStream {
  /// A stream and its guest's memory.
  public struct WithMemory: Sendable {
    public let stream: QEMUStream
    public let memory: GuestMemory
    public let layout: RAMLayout
  }

  /// Reads a stream with its guest's memory, into memory files of its own.
  public static func readWithMemory(
    _ file: consuming FileDescriptor, layout: RAMLayout? = nil, block: String? = nil,
    mostByteCount: UInt64 = StreamLimits.loadedByteCount
  ) throws(QEMUStreamError) -> WithMemory {
    var loader = RAMLoader(layout: layout, block: block, mostByteCount: mostByteCount)
    return try WithMemory(read(file, ram: &loader), loader)
  }

  /// Reads a stream that is in memory already, with its guest's memory.
  public static func readWithMemory(
    _ bytes: [UInt8], layout: RAMLayout? = nil, block: String? = nil,
    mostByteCount: UInt64 = StreamLimits.loadedByteCount
  ) throws(QEMUStreamError) -> WithMemory {
    var loader = RAMLoader(layout: layout, block: block, mostByteCount: mostByteCount)
    return try WithMemory(read(bytes, ram: &loader), loader)
  }
}

extension QEMUStream.WithMemory {
  fileprivate init(_ stream: QEMUStream, _ loader: RAMLoader) throws(QEMUStreamError) {
    guard let memory = loader.memory, let layout = loader.layout else { throw .missing("memory") }
    self.init(stream: stream, memory: memory, layout: layout)
  }
}
