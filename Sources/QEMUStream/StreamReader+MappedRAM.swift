/// Pages that stand each at its place in the file, behind a bitmap that tells which are there (`mapped-ram`, QEMU 9.0).
extension StreamReader {
  mutating func readMappedPages(
    of block: RAMBlock, _ ram: inout some RAMVisitor & ~Copyable
  ) throws(QEMUStreamError) {
    let place = input.place("mapped")
    let version = try input.integer(UInt32.self, "mapped.version")
    guard version == 1 else { throw .unsupportedVersion(place, version: version, known: 1) }
    let pageByteCount = try input.integer(UInt64.self, "mapped.pageSize")
    guard pageByteCount == RAMPage.byteCount else {
      throw .unsupported(place, what: "a page of \(pageByteCount) bytes")
    }
    let bitmapOffset = try input.integer(UInt64.self, "mapped.bitmap")
    let pagesOffset = try input.integer(UInt64.self, "mapped.pages")
    let pageCount = block.byteCount / UInt64(RAMPage.byteCount)
    let bitmapByteCount = (pageCount + 63) / 64 * 8
    guard bitmapByteCount <= StreamLimits.bitmapByteCount else {
      throw .beyondLimit(place, value: bitmapByteCount, limit: StreamLimits.bitmapByteCount)
    }
    try advance(to: bitmapOffset, place)
    let bitmap = try input.bytes(Int(bitmapByteCount), "mapped.bitmap")
    try advance(to: pagesOffset, place)
    for number in 0..<pageCount {
      let isThere = bitmap[Int(number / 8)] >> (number % 8) & 1 != 0
      try readMappedPage(number * UInt64(RAMPage.byteCount), isThere, &ram)
    }
  }

  private mutating func readMappedPage(
    _ offset: UInt64, _ isThere: Bool, _ ram: inout some RAMVisitor & ~Copyable
  ) throws(QEMUStreamError) {
    let block = blocks.count - 1
    guard isThere else {
      pages.filled += 1
      try input.skip(UInt64(RAMPage.byteCount), "page")
      return try ram.visit(RAMPage(block: block, offset: offset, content: .filled(0)))
    }
    pages.whole += 1
    let content = try input.bytes(RAMPage.byteCount, "page")
    try ram.visit(RAMPage(block: block, offset: offset, content: .bytes(content)))
  }

  /// Goes on to a place further on.
  private mutating func advance(to offset: UInt64, _ place: StreamPlace) throws(QEMUStreamError) {
    guard offset >= input.offset, offset - input.offset <= StreamLimits.gapByteCount else {
      throw .invalid(place, reason: "a part at byte \(offset), which does not come next")
    }
    try input.skip(offset - input.offset, "mapped")
  }
}
