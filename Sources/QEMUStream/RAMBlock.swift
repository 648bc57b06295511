/// A block of a machine's memory, as QEMU names it: `pc.ram`, a ROM, a display's memory.
public struct RAMBlock: Equatable, Sendable {
  public let name: String
  /// The length in bytes, a multiple of `RAMPage.byteCount`.
  public let byteCount: UInt64

  public init(name: String, byteCount: UInt64) {
    self.name = name
    self.byteCount = byteCount
  }
}

/// One page of a block, as a stream has it.
public struct RAMPage: Equatable, Sendable {
  /// The size of a page, which is that of the machines that are read here.
  public static let byteCount = 4096

  public enum Content: Equatable, Sendable {
    /// Every byte of it is the same, nearly always 0.
    case filled(UInt8)
    case bytes([UInt8])
  }

  /// Which of the stream's blocks.
  public let block: Int
  /// Where in the block.
  public let offset: UInt64
  public let content: Content

  public init(block: Int, offset: UInt64, content: Content) {
    self.block = block
    self.offset = offset
    self.content = content
  }
}

/// Takes the memory of a stream, page by page as they come. A page that comes again replaces what it was before.
public protocol RAMVisitor: ~Copyable {
  /// Pages of a block will come.
  ///
  /// - Parameters:
  ///   - index: by which pages name the block: 0, 1 and so on.
  ///   - machine: the machine type, empty where the stream does not tell.
  mutating func begin(_ block: RAMBlock, at index: Int, machine: String) throws(QEMUStreamError)
  mutating func visit(_ page: RAMPage) throws(QEMUStreamError)
  /// All pages have come.
  mutating func end() throws(QEMUStreamError)
}

/// Takes no page.
struct NoRAM: RAMVisitor {
  mutating func begin(_ block: RAMBlock, at index: Int, machine: String) {}
  mutating func visit(_ page: RAMPage) {}
  mutating func end() {}
}
