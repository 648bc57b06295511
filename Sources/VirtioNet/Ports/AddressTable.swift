/// Where a switch has seen addresses: bounded, and fair to its ports.
///
/// When it is full, the port with the most addresses loses the one that it has not used for the longest time: whoever
/// makes addresses up displaces its own.
struct AddressTable: Sendable {
  /// An entry, or a free place for one.
  private struct Entry {
    var key: UInt64 = 0
    /// When it was last seen as the source of a frame, to the table's precision.
    var seen: UInt64 = 0
    var port: Int32 = 0
    /// The next in the same bucket, or the next free place.
    var next = none
    var older = none
    var newer = none
  }

  /// The addresses of one port, by when they were seen.
  private struct Row {
    var oldest = none
    var newest = none
    var count = 0
  }

  private static let none: Int32 = -1

  private let ageing: UInt64
  /// By how much an entry may look older than it is.
  private let precision: UInt64
  /// Secret and odd, so that nobody can choose addresses that share a bucket.
  private let multiplier = UInt64.random(in: .min ... .max) | 1
  private let shift: UInt64
  private var entries: [Entry]
  private var buckets: [Int32]
  private var firstFree: Int32
  private var rows: [Row] = []
  private var nextSweep: UInt64 = 0

  /// - Parameters:
  ///   - capacity: how many addresses there may be; with none, none is learnt.
  ///   - ageing: for how many nanoseconds an address is known after it was seen.
  init(capacity: Int, ageing: UInt64) {
    self.ageing = ageing
    precision = max(1, ageing / 256)
    let capacity = min(max(0, capacity), 1 << 20)
    entries = (0..<Int32(capacity)).map { Entry(next: $0 + 1 < capacity ? $0 + 1 : Self.none) }
    firstFree = capacity > 0 ? 0 : Self.none
    let bits = max(1, Int.bitWidth - max(0, capacity - 1).leadingZeroBitCount)
    shift = UInt64(64 - bits)
    buckets = [Int32](repeating: Self.none, count: 1 << bits)
  }

  /// What an address in a VLAN is known by.
  static func key(_ address: UInt64, _ vlan: UInt16) -> UInt64 { address | UInt64(vlan) << 48 }

  /// The port behind which a key was last seen.
  func port(of key: UInt64) -> Int? {
    let index = find(key)
    return index == Self.none ? nil : Int(entries[Int(index)].port)
  }

  /// Notes that a key was seen behind a port.
  mutating func learn(_ key: UInt64, _ port: Int, now: UInt64) {
    let index = find(key)
    guard index != Self.none else { return add(key, port, now: now) }
    let entry = entries[Int(index)]
    guard entry.port != port || now > entry.seen && now - entry.seen >= precision else { return }
    unlink(index)
    entries[Int(index)].seen = now
    link(index, Int32(port))
  }

  /// Forgets what has not been seen for too long.
  mutating func forgetOld(now: UInt64) {
    guard now >= nextSweep else { return }
    nextSweep = Self.sum(now, precision)
    for row in rows.indices {
      while rows[row].oldest != Self.none, Self.sum(entries[Int(rows[row].oldest)].seen, ageing) <= now {
        remove(rows[row].oldest)
      }
    }
  }

  /// Forgets what was seen behind a port.
  mutating func forget(port: Int) {
    guard rows.indices.contains(port) else { return }
    while rows[port].oldest != Self.none { remove(rows[port].oldest) }
  }

  /// All entries, those of each port from the oldest to the newest.
  var all: [(key: UInt64, port: Int, seen: UInt64)] {
    rows.indices.flatMap { row in
      sequence(first: rows[row].oldest) { index in entries[Int(index)].newer }
        .prefix { $0 != Self.none }
        .map { (entries[Int($0)].key, row, entries[Int($0)].seen) }
    }
  }

  private func bucket(of key: UInt64) -> Int { Int((key &* multiplier) >> shift) }

  private func find(_ key: UInt64) -> Int32 {
    var index = buckets[bucket(of: key)]
    while index != Self.none, entries[Int(index)].key != key { index = entries[Int(index)].next }
    return index
  }

  private mutating func add(_ key: UInt64, _ port: Int, now: UInt64) {
    if firstFree == Self.none { displaceOne() }
    guard firstFree != Self.none else { return }
    let index = firstFree
    firstFree = entries[Int(index)].next
    let bucket = bucket(of: key)
    entries[Int(index)].key = key
    entries[Int(index)].seen = now
    entries[Int(index)].next = buckets[bucket]
    buckets[bucket] = index
    link(index, Int32(port))
  }

  private mutating func displaceOne() {
    guard let longest = rows.indices.max(by: { rows[$0].count < rows[$1].count }), rows[longest].count > 0 else {
      return
    }
    remove(rows[longest].oldest)
  }

  private mutating func remove(_ index: Int32) {
    unlink(index)
    let bucket = bucket(of: entries[Int(index)].key)
    let next = entries[Int(index)].next
    if buckets[bucket] == index {
      buckets[bucket] = next
    } else {
      var before = buckets[bucket]
      while entries[Int(before)].next != index { before = entries[Int(before)].next }
      entries[Int(before)].next = next
    }
    entries[Int(index)].next = firstFree
    firstFree = index
  }

  /// Makes an entry the newest of a port.
  private mutating func link(_ index: Int32, _ port: Int32) {
    let row = Int(port)
    while rows.count <= row { rows.append(Row()) }
    let newest = rows[row].newest
    entries[Int(index)].port = port
    entries[Int(index)].older = newest
    entries[Int(index)].newer = Self.none
    if newest == Self.none { rows[row].oldest = index } else { entries[Int(newest)].newer = index }
    rows[row].newest = index
    rows[row].count += 1
  }

  private mutating func unlink(_ index: Int32) {
    let entry = entries[Int(index)]
    let row = Int(entry.port)
    if entry.older == Self.none {
      rows[row].oldest = entry.newer
    } else {
      entries[Int(entry.older)].newer = entry.newer
    }
    if entry.newer == Self.none {
      rows[row].newest = entry.older
    } else {
      entries[Int(entry.newer)].older = entry.older
    }
    rows[row].count -= 1
  }

  private static func sum(_ first: UInt64, _ second: UInt64) -> UInt64 {
    let (sum, overflow) = first.addingReportingOverflow(second)
    return overflow ? .max : sum
  }
}
