import LinuxIO

/// Putting pages aside before they change.
extension FrozenPages {
  /// Lets a backing page be written or go, once what it holds has been put aside or taken; waits for room if need be.
  private func open(_ index: Int, _ page: Range<Int>) throws(GuestMemoryError) {
    let pages = regions[index].pages(of: page)
    _ = try desk.wait(on: forRoom) { (state) throws(GuestMemoryError) -> Bool? in
      if state.phase == .over { return true }
      let isOpen = state.isTaken(index, page) || state.opened[index].isMarked(pages.lowerBound)
      if state.phase == .frozen, !isOpen {
        guard try putAside(index, page, &state) else { return nil }
      }
      // Under the lock: a page that is open must not be read any more.
      if !isOpen { state.opened[index].insert(pages) }
      try system { () throws(LinuxError) in try protect(index, page, false) }
      return true
    }
  }

  /// - Returns: false when there is no room.
  private func putAside(
    _ index: Int, _ page: Range<Int>, _ state: inout FrozenState
  ) throws(GuestMemoryError) -> Bool {
    guard try nextBacked(index, from: page.lowerBound, before: page.upperBound, state) != nil else { return true }
    guard state.freeCount >= page.count / 4096 else { return false }
    let region = regions[index].region
    for start in stride(from: page.lowerBound, to: page.upperBound, by: 4096) {
      let range = region.guestRange(of: start..<start + 4096)
      guard range.byteCount > 0, try !memory.isZero(range) else { continue }
      let slot = state.takeSlot()
      try memory.copy(range, to: aside, at: GuestAddress(UInt64(slot) * 4096))
      state.slots[index][regions[index].pages(of: start..<start + 4096).lowerBound] = slot
    }
    return true
  }

  /// The first byte from `start` on with memory behind it. Of pages that are not open that stays what it was when memory
  /// was frozen, but for those that somebody has read since, which are zero.
  func nextBacked(
    _ index: Int, from start: Int, before end: Int, _ state: FrozenState
  ) throws(GuestMemoryError) -> Int? {
    guard start < end else { return nil }
    if let backed = state.backed[index] {
      return backed.first { $0.upperBound > start && $0.lowerBound < end }.map { max($0.lowerBound, start) }
    }
    return try system { () throws(LinuxError) in
      let region = regions[index].region
      // Where a stretch ends is not asked: the kernel would look at all of a long one.
      guard let file = region.file else { return try region.mapping.nextPresent(from: start, before: end)?.lowerBound }
      return try file.descriptor.nextData(from: start).flatMap { $0 < end ? $0 : nil }
    }
  }

  /// Puts aside what is about to be discarded. If that fails there is nothing more to be taken: it would not be what was.
  func willDiscard(_ bytes: Range<Int>, of index: Int) {
    do throws(GuestMemoryError) {
      let region = regions[index].region
      let whole = region.backingPages(of: bytes.clamped(to: regions[index].bytes))
      var next = whole.lowerBound
      while let first = try nextToSave(index, from: next, before: whole.upperBound) {
        let page = region.backingPages(of: first..<first + 1)
        try open(index, page)
        next = page.upperBound
      }
      // All of it, holes too: memory of this process alone loses its protection with its pages.
      desk.withLock { $0.opened[index].insert(regions[index].pages(of: whole)) }
    } catch {
      fail(error)
    }
  }

  private func nextToSave(_ index: Int, from start: Int, before end: Int) throws(GuestMemoryError) -> Int? {
    try desk.withLock { (state) throws(GuestMemoryError) in
      guard state.phase == .frozen else { return nil }
      return try nextBacked(index, from: start, before: end, state)
    }
  }

  private func fail(_ error: GuestMemoryError) {
    desk.withLock { (state) in
      guard state.phase != .over, state.failure == nil else { return }
      if case .system(let error) = error { state.failure = error } else { state.phase = .over }
    }
    forRoom.wakeAll()
  }

  // MARK: - The answering thread

  /// Lets each write that somebody waits with pass, until the end. When it cannot go on, nobody has to wait any more.
  func answerFaults() {
    do throws(LinuxError) {
      var failure: GuestMemoryError?
      let loop = try EventLoop()
      try loop.watch(ending.descriptor.rawValue) { [unowned loop] in loop.stop() }
      try loop.watch(userfaultfd.descriptor.rawValue) { [unowned loop, unowned self] in
        do throws(GuestMemoryError) {
          try answer()
        } catch {
          failure = error
          loop.stop()
        }
      }
      try loop.run()
      guard let failure else { return }
      fail(failure)
    } catch {
      fail(.system(error))
    }
    release()
  }

  private func answer() throws(GuestMemoryError) {
    var failure: GuestMemoryError?
    try system { () throws(LinuxError) in
      try userfaultfd.takeFaults { (fault) in
        do throws(GuestMemoryError) { try answer(fault) } catch { failure = error }
      }
    }
    if let failure { throw failure }
  }

  private func answer(_ fault: Userfaultfd.Fault) throws(GuestMemoryError) {
    for (index, frozen) in regions.enumerated() {
      guard let offset = fault.offset(in: frozen.region.mapping), frozen.bytes.contains(offset) else { continue }
      return try open(index, frozen.region.backingPages(of: offset..<offset + 1))
    }
  }
}
