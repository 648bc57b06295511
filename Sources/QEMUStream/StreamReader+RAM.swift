/// The memory's sections (`migration/ram.c`).
extension StreamReader {
  /// The list of blocks that the memory's first part begins with.
  mutating func readBlocks(_ ram: inout some RAMVisitor & ~Copyable) throws(QEMUStreamError) {
    let place = input.place("total")
    let first = try input.integer(UInt64.self, "total")
    guard first & RAMFlag.all == RAMFlag.sizes else {
      throw .invalid(place, reason: "memory that does not begin with its blocks")
    }
    let total = first & ~RAMFlag.all
    guard total <= StreamLimits.memoryByteCount else {
      throw .beyondLimit(place, value: total, limit: StreamLimits.memoryByteCount)
    }
    var left = total
    while left > 0 {
      let block = try readBlock(atMost: left)
      left -= block.byteCount
      blocks.append(block)
      try ram.begin(block, at: blocks.count - 1, machine: machine)
      if hasMappedRAM { try readMappedPages(of: block, &ram) }
    }
  }

  private mutating func readBlock(atMost left: UInt64) throws(QEMUStreamError) -> RAMBlock {
    let place = input.place("blocks[\(blocks.count)]")
    guard blocks.count < StreamLimits.blockCount else {
      throw .beyondLimit(place, value: UInt64(blocks.count) + 1, limit: UInt64(StreamLimits.blockCount))
    }
    let name = try input.name("blocks[\(blocks.count)].name")
    let byteCount = try input.integer(UInt64.self, "blocks[\(blocks.count)].length")
    guard byteCount > 0, byteCount % UInt64(RAMPage.byteCount) == 0, byteCount <= left else {
      throw .invalid(place, reason: "a block of \(byteCount) bytes, where \(left) bytes of memory are left")
    }
    guard !blocks.contains(where: { $0.name == name }) else {
      throw .invalid(place, reason: "a second block \(name.printable)")
    }
    return RAMBlock(name: name, byteCount: byteCount)
  }

  /// The pages of a part, up to its end. That a page is of the block before holds across parts.
  mutating func readPages(_ ram: inout some RAMVisitor & ~Copyable) throws(QEMUStreamError) {
    while true {
      let place = input.place("page")
      let word = try input.integer(UInt64.self, "page")
      let offset = word & ~RAMFlag.all
      switch word & RAMFlag.all & ~RAMFlag.sameBlock {
      case RAMFlag.end where word == RAMFlag.end: return
      case RAMFlag.zero:
        let block = try readBlock(of: word, place)
        pages.filled += 1
        let fill = try input.integer(UInt8.self, "page")
        // QEMU writes no other, which would cost a page of memory for nine bytes.
        guard fill == 0 else { throw .unsupported(place, what: "a page filled with \(fill)") }
        try ram.visit(RAMPage(block: block, offset: offset, content: .filled(fill)))
      case RAMFlag.page:
        let block = try readBlock(of: word, place)
        pages.whole += 1
        let content = try input.bytes(RAMPage.byteCount, "page")
        try ram.visit(RAMPage(block: block, offset: offset, content: .bytes(content)))
      case let flags: throw refusal(flags, place)
      }
    }
  }

  /// Which block a page is of, proven to have that page.
  private mutating func readBlock(of word: UInt64, _ place: StreamPlace) throws(QEMUStreamError) -> Int {
    if word & RAMFlag.sameBlock == 0 {
      let name = try input.name("page")
      guard let index = blocks.firstIndex(where: { $0.name == name }) else {
        throw .unknownPage(place, block: name, offset: word & ~RAMFlag.all)
      }
      lastBlock = index
    }
    guard let index = lastBlock else {
      throw .invalid(place, reason: "a page of the block before, where there is none")
    }
    guard word & ~RAMFlag.all < blocks[index].byteCount else {
      throw .unknownPage(place, block: blocks[index].name, offset: word & ~RAMFlag.all)
    }
    return index
  }

  private func refusal(_ flags: UInt64, _ place: StreamPlace) -> QEMUStreamError {
    switch flags {
    case RAMFlag.delta: .unsupported(place, what: "a page as its difference (xbzrle)")
    case RAMFlag.compressed: .unsupported(place, what: "a compressed page")
    case RAMFlag.channels: .unsupported(place, what: "memory on several channels (multifd)")
    case RAMFlag.hook: .unsupported(place, what: "memory by RDMA")
    default: .invalid(place, reason: "flags 0x\(String(flags, radix: 16)), which no page has")
    }
  }
}
