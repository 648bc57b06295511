import GuestRAM

/// The numbers in the guest's first page, from which everything else in its memory is found.
enum BootCell: RawRepresentable {
  case magic, pageCount, seed, pageTable, cursor, balloonPage, poison, isPoisoning, blockPage, netPage
  case counter(GuestCounter)
  /// How many pages there are of a kind.
  case count(PageKind)
  /// What a collection of pages keeps: its table, its capacity, its high-water mark, its reclaim cursor.
  case collection(PageCollection.Name, PageCollection.Field)

  static let expectedMagic: UInt64 = 0x3154_5345_5547_4B56  // "VKGUEST1"

  var rawValue: UInt64 {
    switch self {
    case .magic: 0
    case .pageCount: 1
    case .seed: 2
    case .pageTable: 3
    case .cursor: 4
    case .balloonPage: 5
    case .poison: 6
    case .isPoisoning: 7
    case .blockPage: 8
    case .netPage: 9
    case .counter(let counter): 16 + counter.rawValue
    case .count(let kind): 32 + UInt64(kind.rawValue)
    case .collection(let name, let field): 64 + 8 * name.rawValue + field.rawValue
    }
  }

  /// Cells are only ever named; none is looked up by its number.
  init?(rawValue: UInt64) { nil }
}

/// What the guest counts for its statistics.
public enum GuestCounter: UInt64, Sendable {
  /// Pages of files that had to be read from disk.
  case majorFaults = 0
  /// Pages of memory that were used for the first time.
  case minorFaults = 1
  /// How often a workload was killed for want of memory.
  case oomKills = 2
  /// How often a workload had to wait for memory.
  case allocationStalls = 3
  /// Cache pages looked at when memory was wanted.
  case directScans = 4
  /// Cache pages dropped when memory was wanted.
  case directReclaims = 5
  /// Pages taken out of the balloon because memory was wanted.
  case oomDeflations = 6
  /// Poisoned pages that did not hold the poison value any more.
  case poisonLosses = 7
  /// The address of the last such page.
  case poisonLostAt = 8
}

typealias BootBlock = Cells<BootCell>

extension Cells where Name == BootCell {
  /// The boot block of a guest in this memory.
  init(in memory: GuestMemory) {
    self.init(memory: memory, base: GuestAddress(0))
  }

  /// Finds out whether there is a guest in this memory, and that its tables are where they can be.
  func check(pageCount: UInt64) throws(GuestError) {
    let magic = try get(.magic)
    guard magic == BootCell.expectedMagic else { throw .notAGuest(found: magic) }
    let count = try get(.pageCount)
    guard count == pageCount else { throw .damaged(field: "page count", value: count) }
    let table = try get(.pageTable)
    guard table % 8 == 0, table <= (pageCount << GuestPage.shift) - pageCount else {
      throw .damaged(field: "page table", value: table)
    }
  }
}
