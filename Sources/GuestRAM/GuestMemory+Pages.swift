import LinuxIO

/// Host memory behind the guest: how much there is, where, and giving it back.
extension GuestMemory {
  /// Gives the host memory behind a range back; it reads as zeros afterwards.
  ///
  /// Memory in a file is freed in the file, so for everybody who maps it. A range that is refused is left as it is.
  /// What the range held is gone, which the dirty log is told like any other store.
  /// - Parameter range: guest memory; start and length are multiples of the backing page of each region it touches.
  public func discard(_ range: GuestRange) throws(GuestMemoryError) {
    try checkWholePages(range)
    for region in regions {
      guard let part = region.range.overlap(range) else { continue }
      try system { () throws(LinuxError) in
        try region.mapping.discard(at: region.hostOffset(of: part.start), byteCount: Int(part.byteCount))
      }
    }
    dirtyLog?.mark(range)
  }

  /// Throws unless the range is guest memory, and whole backing pages of each region that it touches.
  func checkWholePages(_ range: GuestRange) throws(GuestMemoryError) {
    try check(range)
    for region in regions {
      guard let part = region.range.overlap(range), !region.isWholePages(part) else { continue }
      throw .unaligned(part.start, multipleOf: region.backingPageByteCount)
    }
  }

  /// Puts host memory behind a range of one region before it is touched, which costs less there than fault by fault
  /// and may be done by another thread than the one that needs it. What the range holds stays as it is.
  ///
  /// - Parameter range: start and length are multiples of 4 KiB.
  /// - Returns: false when the kernel (before Linux 5.14) cannot do it; a touch works all the same.
  public func populate(_ range: GuestRange) throws(GuestMemoryError) -> Bool {
    guard let region = regions.first(where: { $0.range.overlap(range) == range }) else { throw .divided(range) }
    let offset = region.hostOffset(of: range.start)
    guard offset % 4096 == 0, range.byteCount % 4096 == 0 else { throw .unaligned(range.start, multipleOf: 4096) }
    return try gettingMemory(for: range) { () throws(LinuxError) in
      try region.mapping.populate(at: offset, byteCount: Int(range.byteCount))
    }
  }

  /// Populates a range of a region that lies in a file, before it is stored to: where the file has no room for another page a
  /// store would end the process.
  ///
  /// - Parameter range: start and length are multiples of 4 KiB.
  public func makePresent(_ range: GuestRange) throws(GuestMemoryError) {
    guard regions.contains(where: { $0.file != nil && $0.range.overlap(range) != nil }) else { return }
    _ = try populate(range)
  }

  /// The host memory that the guest occupies, in bytes, as the kernel counts it, swapped-out pages included.
  ///
  /// It is measured: whoever else fills or frees the same file changes it too. Of huge pages the kernel tells only how
  /// many the whole file has.
  public func residentByteCount() throws(GuestMemoryError) -> UInt64 {
    try system { () throws(LinuxError) in
      var sum: UInt64 = 0
      var files = HugePageFiles()
      for region in regions where try !files.add(region) {
        try region.forEachResidentPart { sum += $0.byteCount }
      }
      return sum + files.residentByteCount
    }
  }

  /// The parts of guest memory that have host memory behind them, in rising order, found without reading any of it.
  ///
  /// Where huge pages lie is only known as long as this process has touched all that the file has. Otherwise it is said
  /// of all of a region, which has too much in it and nothing too little.
  public func residentRanges() throws(GuestMemoryError) -> [GuestRange] {
    var ranges: [GuestRange] = []
    for region in regions {
      try system { () throws(LinuxError) in
        try region.forEachResidentPart { ranges.append($0) }
      }
    }
    return ranges
  }

  /// The parts of a range that have host memory behind them; of a region with huge pages all of its part, as to ask for
  /// them costs as much as for those of the whole file.
  public func residentRanges(in range: GuestRange) throws(GuestMemoryError) -> [GuestRange] {
    try residentRanges(in: [range])
  }

  /// The same for several ranges, in their order, which costs far less than to ask about each of them.
  public func residentRanges(in parts: [GuestRange]) throws(GuestMemoryError) -> [GuestRange] {
    guard !parts.isEmpty else { return [] }
    var ranges: [GuestRange] = []
    try system { () throws(LinuxError) in
      let map = try PageMap()
      for part in parts {
        for region in regions {
          guard let part = region.range.overlap(part) else { continue }
          try region.forEachResidentPart(of: part, asking: map) { ranges.append($0) }
        }
      }
    }
    return ranges
  }
}

/// Files of huge pages that regions lie in, each of which may have several.
private struct HugePageFiles {
  private var files: [FileStatus.Identity: (allocated: UInt64, inRegions: UInt64)] = [:]

  /// Whether the region is in such a file, and so counted here.
  mutating func add(_ region: MemoryRegion) throws(LinuxError) -> Bool {
    guard let status = try region.hugePageFile else { return false }
    files[status.identity, default: (UInt64(status.allocatedByteCount), 0)].inRegions += region.range.byteCount
    return true
  }

  var residentByteCount: UInt64 {
    files.values.reduce(0) { $0 + min($1.allocated, $1.inRegions) }
  }
}

extension MemoryRegion {
  /// Where a guest address of this region stands in the region's mapping, in bytes.
  func hostOffset(of address: GuestAddress) -> Int {
    mappingOffset + Int(address.rawValue - range.start.rawValue)
  }

  fileprivate func isWholePages(_ part: GuestRange) -> Bool {
    hostOffset(of: part.start) % backingPageByteCount == 0 && part.byteCount % UInt64(backingPageByteCount) == 0
  }

  /// The status of the region's file when it lives in huge pages; nil otherwise.
  fileprivate var hugePageFile: FileStatus? {
    get throws(LinuxError) {
      guard backingPageByteCount > 4096, let status = try file?.descriptor.status, status.isHugePages else {
        return nil
      }
      return status
    }
  }

  /// Of a part of the region; all of it where pages are huge.
  fileprivate func forEachResidentPart(
    of part: GuestRange, asking map: borrowing PageMap, _ body: (GuestRange) -> Void
  ) throws(LinuxError) {
    if backingPageByteCount > 4096 { return body(part) }
    var next = hostOffset(of: part.start)
    let end = next + Int(part.byteCount)
    guard file == nil else {
      // For the end of a file's data the kernel looks at all of the data that follows, however little is asked about.
      if !tellsPages, try map.isPresent(next..<end, of: mapping) { return body(part) }
      return try forEachResidentPart(of: part, body)
    }
    while next < end, let found = try map.nextPresent(in: mapping, from: next, before: end) {
      body(guestRange(of: found))
      next = found.upperBound
    }
  }

  func forEachResidentPart(_ body: (GuestRange) -> Void) throws(LinuxError) {
    if let status = try hugePageFile { return try forEachResidentPart(of: status, body) }
    try forEachResidentPart(of: range, body)
  }

  /// Of a part of the region, which has pages of 4 KiB.
  fileprivate func forEachResidentPart(of part: GuestRange, _ body: (GuestRange) -> Void) throws(LinuxError) {
    var next = hostOffset(of: part.start)
    let end = next + Int(part.byteCount)
    let mayGuess = tellsPages
    var (found, guess) = (next..<next, Self.leastGuess)
    while next < end, let part = try nextResident(from: next, before: end, guessing: mayGuess ? guess : 0) {
      let isNext = part.lowerBound == found.upperBound
      if !isNext, !found.isEmpty { body(guestRange(of: found)) }
      found = (isNext ? found.lowerBound : part.lowerBound)..<part.upperBound
      guess = isNext ? min(2 * guess, Self.mostGuess) : Self.leastGuess
      next = part.upperBound
    }
    if !found.isEmpty { body(guestRange(of: found)) }
  }

  /// Of how many bytes it is worth while to ask whether they are all data: at first, and at most.
  private static var leastGuess: Int { 64 << 10 }
  private static var mostGuess: Int { 64 << 20 }
  private var tellsPages: Bool { file?.status.tellsPages ?? false }

  /// A file of huge pages calls all of itself data, holes and all, so the page map is asked. That knows the pages which
  /// this mapping has touched, and so it is believed when the file has no others.
  private func forEachResidentPart(of file: FileStatus, _ body: (GuestRange) -> Void) throws(LinuxError) {
    guard file.allocatedByteCount > 0 else { return }
    var touched: [Range<Int>] = []
    var next = 0
    while next < mapping.byteCount, let part = try mapping.nextPresent(from: next, before: mapping.byteCount) {
      touched.append(part)
      next = part.upperBound
    }
    guard touched.reduce(0, { $0 + $1.count }) == file.allocatedByteCount else { return body(range) }
    let region = mappingOffset..<mappingOffset + Int(range.byteCount)
    for part in touched.map({ $0.clamped(to: region) }) where !part.isEmpty {
      let start = range.start.rawValue + UInt64(part.lowerBound - mappingOffset)
      body(GuestRange(start: GuestAddress(start), byteCount: UInt64(part.count)))
    }
  }

  /// The first stretch with memory behind it, in bytes of the mapping; a file is mapped from its start.
  ///
  /// - Parameter guess: of a file that `tellsPages`, how many bytes may be taken for the stretch if they are all data, for where
  ///   it ends costs far more to find than that.
  func nextResident(from start: Int, before end: Int, guessing guess: Int = 0) throws(LinuxError) -> Range<Int>? {
    guard let file else { return try mapping.nextPresent(from: start, before: end) }
    guard let data = try file.descriptor.nextData(from: start), data < end else { return nil }
    let near = data..<min(end, data + guess)
    if !near.isEmpty, try mapping.isInMemory(near) { return near }
    let hole = try file.descriptor.nextHole(from: data) ?? end
    return max(data, start)..<min(max(hole, data + 1), end)
  }
}

extension GuestRange {
  /// What two ranges have in common, or nil. Of a range that runs past the end of the address space it is the part
  /// before that.
  public func overlap(_ other: GuestRange) -> GuestRange? {
    guard let last, let otherLast = other.last else { return nil }
    let first = max(start.rawValue, other.start.rawValue)
    let end = min(last, otherLast)
    return first <= end ? GuestRange(start: GuestAddress(first), byteCount: end - first + 1) : nil
  }

  /// The last address that the range reaches, or nil when it is empty.
  private var last: UInt64? {
    guard byteCount > 0 else { return nil }
    let (last, overflow) = start.rawValue.addingReportingOverflow(byteCount - 1)
    return overflow ? .max : last
  }
}
