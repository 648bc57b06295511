public import GuestRAM

/// Where a block of a machine's memory is for its guest, which a stream does not tell.
public struct RAMLayout: Equatable, Sendable {
  /// A stretch of the block.
  public struct Piece: Equatable, Sendable {
    /// Where in the block it begins.
    public let offset: UInt64
    public let range: GuestRange

    public init(offset: UInt64, range: GuestRange) {
      self.offset = offset
      self.range = range
    }
  }

  /// The block's name.
  public let block: String
  /// Its stretches, by rising offset and without gaps.
  public let pieces: [Piece]

  /// - Parameter pieces: what of the block is memory of the guest; the rest of it is left alone.
  public init(block: String, pieces: [Piece]) {
    self.block = block
    self.pieces = pieces
  }

  private static let highStart: UInt64 = 1 << 32

  /// What the guest's memory is called in a machine whose type is known, unless it has a name of its own
  /// (`memory-backend=`).
  public static func usualBlock(of machine: String) throws(QEMUStreamError) -> String {
    if machine == "microvm" { return "microvm.ram" }
    guard machine.hasPrefix("pc-q35-") || machine.hasPrefix("pc-i440fx-") else {
      throw .unknownMachine(machine)
    }
    return "pc.ram"
  }

  /// Where the guest's memory is in a machine whose type is known: q35, i440fx and microvm.
  public static func usual(machine: String, block: RAMBlock) throws(QEMUStreamError) -> RAMLayout {
    _ = try usualBlock(of: machine)
    let low = lowByteCount(of: block.byteCount, in: machine)
    var pieces = [Piece(offset: 0, range: GuestRange(start: GuestAddress(0), byteCount: low))]
    if block.byteCount > low {
      let high = GuestRange(start: GuestAddress(highStart), byteCount: block.byteCount - low)
      pieces.append(Piece(offset: low, range: high))
    }
    return RAMLayout(block: block.name, pieces: pieces)
  }

  /// How much of the memory is below 4 GiB.
  private static func lowByteCount(of byteCount: UInt64, in machine: String) -> UInt64 {
    let (limit, low): (UInt64, UInt64) =
      if machine.hasPrefix("pc-q35-") {
        (0xB000_0000, 0x8000_0000)
      } else if machine == "microvm" {
        (0xC000_0000, 0xC000_0000)
      } else {
        (0xE000_0000, 0xC000_0000)
      }
    return byteCount < limit ? byteCount : low
  }

  /// Memory of this shape, empty, in memory files of its own.
  public func makeMemory() throws(QEMUStreamError) -> GuestMemory {
    try memory { () throws(GuestMemoryError) in
      var regions: [MemoryRegion] = []
      for piece in pieces {
        regions.append(try MemoryRegion(memoryFile: piece.range.byteCount, start: piece.range.start))
      }
      return try GuestMemory(regions: regions)
    }
  }

  /// The guest's address of a page of the block; nil when the guest does not see it.
  func address(of offset: UInt64) -> GuestAddress? {
    guard let piece = pieces.last(where: { $0.offset <= offset }), offset - piece.offset < piece.range.byteCount else {
      return nil
    }
    return piece.range.start.advanced(by: offset - piece.offset)
  }
}
