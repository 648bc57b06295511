public import GuestRAM

/// What a look at all that the guest has written has found.
public struct IntegrityReport: Equatable, Sendable {
  /// Something that is not as the guest left it.
  public struct Mismatch: Equatable, Sendable {
    /// What was looked at: `disk page 12`.
    public var what: String
    public var address: GuestAddress
    public var expected: UInt64
    public var found: UInt64
  }

  /// How many pages were compared word for word.
  public var pagesChecked: UInt64 = 0
  /// The first thing that is wrong, or nil.
  public var mismatch: Mismatch?

  public var isIntact: Bool { mismatch == nil }
}

extension IntegrityReport.Mismatch: CustomStringConvertible {
  public var description: String {
    "\(what) at \(address): 0x\(String(found, radix: 16)), should be 0x\(String(expected, radix: 16))"
  }
}

extension Guest {
  /// Compares every page of the disk, the cache and the workloads with what must be in it, and the allocator's table
  /// with its counts, up to the first mismatch. What the drivers of disk and card have found wrong counts too.
  ///
  /// Reads nothing but what the guest has written, so that looking does not make memory resident.
  public func checkIntegrity() throws(GuestError) -> IntegrityReport {
    var report = IntegrityReport()
    report.mismatch = try findWrongCount()
    if report.isIntact { report.mismatch = try findLostPoison() }
    if report.isIntact { report.mismatch = try block?.mismatch() }
    if report.isIntact { report.mismatch = try net?.mismatch() }
    for set in [disk, supply.cache, workingSet, anonymous] where report.isIntact {
      try check(set, &report)
    }
    return report
  }

  private func findWrongCount() throws(GuestError) -> IntegrityReport.Mismatch? {
    var counts = [UInt64](repeating: 0, count: 256)
    for first in stride(from: 0, to: allocator.pageCount, by: 4096) {
      for kind in try allocator.kinds(from: first, count: min(4096, allocator.pageCount - first)) {
        counts[Int(kind)] += 1
      }
    }
    for kind in UInt8.min...UInt8.max {
      let known = PageKind(rawValue: kind)
      let expected = try known.map { (kind) throws(GuestError) in try allocator.count(of: kind) } ?? 0
      if counts[Int(kind)] != expected {
        return IntegrityReport.Mismatch(
          what: "page table, pages of kind \(known.map { "\($0)" } ?? "\(kind)")", address: allocator.table,
          expected: expected, found: counts[Int(kind)])
      }
    }
    return nil
  }

  private func findLostPoison() throws(GuestError) -> IntegrityReport.Mismatch? {
    let count = try count(of: .poisonLosses)
    guard count > 0 else { return nil }
    return IntegrityReport.Mismatch(
      what: "pages that lost their poison, the last one", address: GuestAddress(try self.count(of: .poisonLostAt)),
      expected: 0, found: count)
  }

  private func check(_ set: PageCollection, _ report: inout IntegrityReport) throws(GuestError) {
    var room = [UInt8](repeating: 0, count: GuestPage.byteCount)
    var count: UInt64 = 0
    for number in 0..<(try set.highWater()) {
      guard let entry = try set.entry(number) else { continue }
      count += 1
      report.mismatch = try findMismatch(set, number, entry.page, entry.generation, using: &room)
      guard report.isIntact else { return }
      report.pagesChecked += 1
    }
    let expected = try set.count()
    if count != expected {
      report.mismatch = IntegrityReport.Mismatch(
        what: "\(set.name), number of pages", address: set.table, expected: expected, found: count)
    }
  }

  private func findMismatch(
    _ set: PageCollection, _ number: UInt32, _ page: UInt32, _ generation: UInt32, using room: inout [UInt8]
  ) throws(GuestError) -> IntegrityReport.Mismatch? {
    let address = GuestAddress(page: page)
    let kind = page < allocator.pageCount ? try allocator.kind(of: page) : nil
    guard kind == set.kind else {
      return IntegrityReport.Mismatch(
        what: "\(set.name) page \(number), kind", address: address, expected: UInt64(set.kind.rawValue),
        found: UInt64(kind?.rawValue ?? .max))
    }
    try memory.load(into: &room, at: address)
    let content = PageContent(owner: set.name, number: number, generation: generation)
    guard let difference = PageContent.difference(content.bytes(seed: seed), room) else { return nil }
    return IntegrityReport.Mismatch(
      what: "\(set.name) page \(number)", address: address + UInt64(difference.offset),
      expected: difference.expected, found: difference.found)
  }
}
