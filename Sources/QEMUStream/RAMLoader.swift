public import GuestRAM
public import LinuxIO

/// Keeps the guest's memory out of a stream. Other blocks, as ROMs and a display's memory, are left out.
///
/// Pages that hold only zeros are not touched, so that they take up no memory.
public struct RAMLoader: RAMVisitor {
  private let wantedLayout: RAMLayout?
  private let blockName: String?
  private var destination: (layout: RAMLayout, block: Int, memory: GuestMemory)?
  /// A bit for each page of the block: whether it came, and whether it was written.
  private var known: [UInt64] = []
  private var written: [UInt64] = []

  /// - Parameters:
  ///   - layout: where the memory is for the guest; nil for what is usual for the machine.
  ///   - block: the memory's name in the stream, where it has one of its own (`memory-backend=`) and the layout is usual.
  public init(layout: RAMLayout? = nil, block: String? = nil) {
    wantedLayout = layout
    blockName = block
  }

  /// The guest's memory, whole once the stream has been read.
  public var memory: GuestMemory? { destination?.memory }
  public var layout: RAMLayout? { destination?.layout }

  public mutating func begin(_ blocks: [RAMBlock], machine: String) throws(QEMUStreamError) {
    let layout =
      if let wantedLayout { wantedLayout } else {
        try RAMLayout.standard(machine: machine, blocks: blocks, block: blockName)
      }
    guard let index = blocks.firstIndex(where: { $0.name == layout.block }) else {
      throw .missing("memory block \(layout.block.printable)")
    }
    let words = Int((blocks[index].byteCount / UInt64(RAMPage.byteCount) + 63) / 64)
    destination = (layout, index, try layout.makeMemory())
    known = [UInt64](repeating: 0, count: words)
    written = known
    // What is beyond the last page does not come.
    let pages = blocks[index].byteCount / UInt64(RAMPage.byteCount)
    if pages % 64 != 0 { known[words - 1] = ~0 << (pages % 64) }
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
    written[word] |= bit
    do throws(GuestMemoryError) {
      try destination.memory.write(bytes: bytes, at: address)
    } catch {
      throw .memory(error)
    }
  }

  public mutating func end() throws(QEMUStreamError) {
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
    _ file: consuming FileDescriptor, layout: RAMLayout? = nil, block: String? = nil
  ) throws(QEMUStreamError) -> WithMemory {
    var loader = RAMLoader(layout: layout, block: block)
    return try WithMemory(read(file, ram: &loader), loader)
  }

  /// Reads a stream that is in memory already, with its guest's memory.
  public static func readWithMemory(
    _ bytes: [UInt8], layout: RAMLayout? = nil, block: String? = nil
  ) throws(QEMUStreamError) -> WithMemory {
    var loader = RAMLoader(layout: layout, block: block)
    return try WithMemory(read(bytes, ram: &loader), loader)
  }
}

extension QEMUStream.WithMemory {
  fileprivate init(_ stream: QEMUStream, _ loader: RAMLoader) throws(QEMUStreamError) {
    guard let memory = loader.memory, let layout = loader.layout else { throw .missing("memory") }
    self.init(stream: stream, memory: memory, layout: layout)
  }
}
