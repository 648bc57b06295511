import LinuxIO

/// Taking memory as it was.
extension FrozenPages {
  /// Takes the next stretch, in rising order, after which its pages can be written as before.
  ///
  /// - Returns: the pages that had memory behind them, as runs; perhaps none. What is not zero is in `stage` until the
  ///   next call. Nil when all has been taken.
  func takeNext() throws(GuestMemoryError) -> [FrozenMemory.Run]? {
    while let (index, start) = try position() {
      // It takes its time, and nobody has to wait for that.
      let extent = try extent(index, from: start)
      let runs = try desk.withLock { (state) throws(GuestMemoryError) in
        try takeStretch(index, from: start, extent, &state)
      }
      forRoom.wakeAll()
      if let runs { return runs }
    }
    return nil
  }

  /// The region that is being taken, and from which byte of its mapping on; nil at the end.
  private func position() throws(GuestMemoryError) -> (index: Int, start: Int)? {
    try desk.withLock { (state) throws(GuestMemoryError) in
      try state.check()
      guard state.region < regions.count else { return nil }
      return (state.region, max(state.next, regions[state.region].bytes.lowerBound))
    }
  }

  /// The first stretch from `start` on that has memory behind it, as one that has been asked for before if it is long.
  private func extent(_ index: Int, from start: Int) throws(GuestMemoryError) -> Range<Int> {
    let end = regions[index].bytes.upperBound
    let (known, backed) = desk.withLock { ($0.extent, $0.backed[index]) }
    if let known, known.contains(start) { return known.clamped(to: start..<end) }
    var found: Range<Int>?
    if let backed {
      found = backed.first { $0.upperBound > start }?.clamped(to: start..<end)
    } else if start < end {
      found = try system { () throws(LinuxError) in
        try regions[index].region.nextResident(from: start, before: end)
      }
    }
    desk.withLock { $0.extent = found }
    return found ?? end..<end
  }

  /// Takes whole backing pages of a region that may have something to be taken; what is before them has not.
  /// - Returns: nil when the region has no more.
  private func takeStretch(
    _ index: Int, from start: Int, _ extent: Range<Int>, _ state: inout FrozenState
  ) throws(GuestMemoryError) -> [FrozenMemory.Run]? {
    let frozen = regions[index]
    let end = frozen.bytes.upperBound
    // Looked for after the extent: a page that has gone meanwhile is open.
    let opened = state.opened[index].run(from: frozen.pages(of: start..<end).lowerBound, upTo: 1)
    let first = min(extent.lowerBound, opened.map { frozen.bytes(ofPages: $0).lowerBound } ?? end)
    guard first < end else {
      (state.region, state.next, state.extent) = (state.region + 1, 0, nil)
      return nil
    }
    let page = frozen.region.backingPages(of: first..<first + 1)
    let bytes = page.lowerBound..<min(page.lowerBound + stretchByteCount, end)
    let runs = try take(index, bytes, extent, &state)
    try system { () throws(LinuxError) in try protect(index, bytes, false) }
    state.next = bytes.upperBound
    return runs
  }

  private func take(
    _ index: Int, _ bytes: Range<Int>, _ extent: Range<Int>, _ state: inout FrozenState
  ) throws(GuestMemoryError) -> [FrozenMemory.Run] {
    let frozen = regions[index]
    var runs = RunList()
    var holeEnd = bytes.lowerBound
    for start in stride(from: bytes.lowerBound, to: bytes.upperBound, by: 4096) {
      let range = frozen.region.guestRange(of: start..<start + 4096)
      guard range.byteCount > 0 else { continue }
      let page = frozen.pages(of: start..<start + 4096).lowerBound
      if state.opened[index].isMarked(page) {
        try takeAside(index, page, range, &state, &runs)
      } else if start >= holeEnd {
        let isBacked = extent.contains(start)
        if !isBacked {
          holeEnd = try nextBacked(index, from: start, before: bytes.upperBound, state) ?? bytes.upperBound
        }
        if isBacked || holeEnd == start { try takeInPlace(range, &runs) }
      }
    }
    return runs.runs
  }

  private func takeInPlace(_ range: GuestRange, _ runs: inout RunList) throws(GuestMemoryError) {
    let isZero = try memory.isZero(range)
    let place = runs.append(range, isZero: isZero)
    if !isZero { try memory.copy(range, to: stage, at: place) }
  }

  private func takeAside(
    _ index: Int, _ page: Int, _ range: GuestRange, _ state: inout FrozenState, _ runs: inout RunList
  ) throws(GuestMemoryError) {
    guard let slot = state.slots[index].removeValue(forKey: page) else { return }
    let kept = GuestRange(start: GuestAddress(UInt64(slot) * 4096), byteCount: 4096)
    try aside.copy(kept, to: stage, at: runs.append(range, isZero: false))
    state.giveBack(slot)
  }
}

/// Pages put together to runs, and where the next one's bytes go.
private struct RunList {
  private(set) var runs: [FrozenMemory.Run] = []
  private var place: UInt64 = 0

  /// - Returns: where the page's bytes go, if it has any.
  mutating func append(_ page: GuestRange, isZero: Bool) -> GuestAddress {
    defer { if !isZero { place += page.byteCount } }
    if let last = runs.last, last.isZero == isZero, last.range.end == page.start {
      let range = GuestRange(start: last.range.start, byteCount: last.range.byteCount + page.byteCount)
      runs[runs.count - 1] = FrozenMemory.Run(range: range, isZero: isZero)
    } else {
      runs.append(FrozenMemory.Run(range: page, isZero: isZero))
    }
    return GuestAddress(place)
  }
}
