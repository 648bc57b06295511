import GuestRAM

/// The digests of neighbouring pages, as the destination sends them.
struct PageDigests: Equatable {
  static let mostPages = 4096

  var start: GuestAddress
  var digests: [UInt64]

  init(start: GuestAddress, digests: [UInt64]) {
    self.start = start
    self.digests = digests
  }

  var payload: [UInt8] {
    var writer = WireWriter()
    writer.append(start.rawValue)
    for digest in digests { writer.append(digest) }
    return writer.bytes
  }

  init(_ payload: [UInt8]) throws(MigrationError) {
    var reader = WireReader(payload)
    guard let start: UInt64 = reader.integer(), reader.remainingCount > 0 else { throw .malformedFrame(.digests) }
    digests = []
    digests.reserveCapacity(reader.remainingCount / 8)
    while reader.remainingCount > 0 {
      guard let digest: UInt64 = reader.integer(), digests.count < Self.mostPages else {
        throw .malformedFrame(.digests)
      }
      digests.append(digest)
    }
    self.start = GuestAddress(start)
  }
}

/// Compares the memory of a paused guest with the digests of a copy of it, page by page in rising order.
///
/// The copy names the pages that it has memory for; all others read as zeros there. A page that has memory on neither
/// side is not looked at. Nor is what a page holds here that was left out: in the copy it has to be zero.
struct PageCheck {
  private static let zeroDigest = GuestMemory.digest(of: [UInt8](repeating: 0, count: Int(GuestPage.byteCount)))

  /// How many pages have been compared.
  private(set) var comparedCount: UInt64 = 0

  private let guest: GuestMemory
  private let resident: [GuestRange]
  private var cursor: PageCursor
  private var index = 0
  /// Everything below has been compared.
  private var position: UInt64 = 0

  /// - Parameter leftOut: pages that were never sent, whatever is in them here: they have to be zero in the copy.
  init(_ guest: GuestMemory, leftOut: [GuestRange] = []) throws(MigrationError) {
    self.guest = guest
    resident = try guest.residentPages().subtracting(leftOut)
    cursor = PageCursor(guest.regions.map(\.range))
  }

  /// Compares the next pages that the copy has, and all those before them that it does not have.
  mutating func compare(_ pages: PageDigests) throws(MigrationError) {
    let range = try cursor.take(pages.start, pageCount: UInt64(pages.digests.count))
    try checkZeros(upTo: range.start.rawValue)
    let own = try digests(of: range)
    for (index, (own, other)) in zip(own, pages.digests).enumerated() where own != other {
      throw .pageDiffers(GuestAddress(range.start.rawValue + UInt64(index) * GuestPage.byteCount))
    }
    comparedCount += UInt64(own.count)
  }

  /// Compares what is above all pages that the copy has.
  mutating func finish() throws(MigrationError) {
    try checkZeros(upTo: .max)
  }

  /// The next part that has memory here, up to `end`; everything before it is taken as compared.
  private mutating func nextResident(upTo end: UInt64) -> GuestRange? {
    while index < resident.count {
      let range = resident[index]
      let last = range.start.rawValue + range.byteCount
      let start = max(range.start.rawValue, position)
      guard start < end else { return nil }
      if start < last {
        position = min(last, end)
        return GuestRange(start: GuestAddress(start), byteCount: position - start)
      }
      index += 1
    }
    return nil
  }

  private mutating func checkZeros(upTo end: UInt64) throws(MigrationError) {
    while let part = nextResident(upTo: end) {
      for offset in stride(from: 0, to: part.byteCount, by: Int(GuestPage.byteCount)) {
        let start = GuestAddress(part.start.rawValue + offset)
        let page = GuestRange(start: start, byteCount: GuestPage.byteCount)
        guard try inGuestMemory({ () throws(GuestMemoryError) in try guest.isZero(page) }) else {
          throw .pageDiffers(start)
        }
      }
      comparedCount += part.byteCount / GuestPage.byteCount
    }
    position = max(position, end)
  }

  private mutating func digests(of range: GuestRange) throws(MigrationError) -> [UInt64] {
    let end = range.start.rawValue + range.byteCount
    var digests: [UInt64] = []
    digests.reserveCapacity(Int(range.byteCount / GuestPage.byteCount))
    func appendZeros(upTo address: UInt64) {
      let count = (address - range.start.rawValue) / GuestPage.byteCount - UInt64(digests.count)
      digests.append(contentsOf: repeatElement(Self.zeroDigest, count: Int(count)))
    }
    while let part = nextResident(upTo: end) {
      appendZeros(upTo: part.start.rawValue)
      try inGuestMemory { () throws(GuestMemoryError) in try guest.appendPageDigests(of: part, to: &digests) }
    }
    appendZeros(upTo: end)
    position = end
    return digests
  }
}
