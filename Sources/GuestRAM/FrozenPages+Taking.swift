import LinuxIO

/// Taking memory as it was.
extension FrozenPages {
  /// Takes the next stretch, in rising order, after which its pages can be written as before.
  ///
  /// - Returns: the pages that had memory behind them, as runs; perhaps none. What is not zero is in `stage` until the
  ///   next call. Nil when all has been taken.
  func takeNext() throws(GuestMemoryError) -> [FrozenMemory.Run]? {
    let runs = try desk.withLock { (state) throws(GuestMemoryError) -> [FrozenMemory.Run]? in
      try state.check()
      guard let (index, bytes) = try nextStretch(&state) else { return nil }
      let runs = try take(index, bytes, &state)
      try system { () throws(LinuxError) in try protect(index, bytes, false) }
      state.next = bytes.upperBound
      return runs
    }
    forRoom.wakeAll()
    return runs
  }

  /// Whole backing pages of a region that may have something to be taken; what is before them has not.
  private func nextStretch(_ state: inout FrozenState) throws(GuestMemoryError) -> (index: Int, Range<Int>)? {
    while state.region < regions.count {
      let frozen = regions[state.region]
      let start = max(state.next, frozen.bytes.lowerBound)
      let end = frozen.bytes.upperBound
      let backed = try nextBacked(state.region, from: start, before: end, state)?.lowerBound
      let opened = state.opened[state.region].run(from: frozen.pages(of: start..<end).lowerBound, upTo: 1)
      let first = min(backed ?? end, opened.map { frozen.bytes(ofPages: $0).lowerBound } ?? end)
      if first < end {
        let page = frozen.region.backingPages(of: first..<first + 1)
        return (state.region, page.lowerBound..<min(page.lowerBound + stretchByteCount, end))
      }
      state.region += 1
      state.next = 0
    }
    return nil
  }

  private func take(
    _ index: Int, _ bytes: Range<Int>, _ state: inout FrozenState
  ) throws(GuestMemoryError) -> [FrozenMemory.Run] {
    let frozen = regions[index]
    var runs = RunList()
    var backed: Range<Int>? = bytes.lowerBound..<bytes.lowerBound
    for start in stride(from: bytes.lowerBound, to: bytes.upperBound, by: 4096) {
      let range = frozen.region.guestRange(of: start..<start + 4096)
      guard range.byteCount > 0 else { continue }
      let page = frozen.pages(of: start..<start + 4096).lowerBound
      if state.opened[index].isMarked(page) {
        guard let slot = state.slots[index].removeValue(forKey: page) else { continue }
        let kept = GuestRange(start: GuestAddress(UInt64(slot) * 4096), byteCount: 4096)
        try aside.copy(kept, to: stage, at: runs.append(range, isZero: false))
        state.giveBack(slot)
        continue
      }
      if let known = backed, known.upperBound <= start {
        backed = try nextBacked(index, from: start, before: bytes.upperBound, state)
      }
      guard let backed, backed.contains(start) else { continue }
      let isZero = try memory.isZero(range)
      let place = runs.append(range, isZero: isZero)
      if !isZero { try memory.copy(range, to: stage, at: place) }
    }
    return runs.runs
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
