import GuestRAM

/// Pages into the balloon and out of it (5.5.6), up to 256 at a time.
extension BalloonDriver {
  /// Moves towards the target, unless a request is out.
  func resize() throws(GuestError) {
    guard try cells.get(.operation) == Operation.none.rawValue else { return }
    let held = try allocator.count(of: .balloon)
    let wanted = try cells.get(.oomWanted)
    if wanted > 0 {
      try cells.set(.oomWanted, 0)
      // The target is the host's wish; it stands back until the host wishes anew.
      try cells.set(.wantsResize, 0)
      let count = min(wanted, held, BalloonPage.mostArrayPages)
      try allocator.boot.add(count, to: .counter(.oomDeflations))
      return try deflate(count)
    }
    guard try cells.get(.wantsResize) != 0 else { return }
    let target = min(try cells.get(.target), UInt64(allocator.pageCount))
    if held < target {
      try inflate(target - held)
    } else if held > target {
      try deflate(held - target)
    } else {
      try cells.set(.wantsResize, 0)
    }
  }

  private func inflate(_ count: UInt64) throws(GuestError) {
    var pages: [UInt32] = []
    while pages.count < min(count, BalloonPage.mostArrayPages), let page = try supply.balloonPage() {
      pages.append(page)
    }
    // With nothing to give, the next step tries again.
    try tell(pages, .inflate, .inflating)
  }

  private func deflate(_ count: UInt64) throws(GuestError) {
    var pages: [UInt32] = []
    var cursor = UInt32(truncatingIfNeeded: try cells.get(.deflateCursor))
    while pages.count < min(count, BalloonPage.mostArrayPages),
      let page = try allocator.find(mask: .max, equal: PageKind.balloon.rawValue, from: cursor)
    {
      try allocator.change(page, to: .deflating)
      pages.append(page)
      cursor = page + 1
    }
    try cells.set(.deflateCursor, UInt64(cursor))
    if !features.contains(.mustTellHost) {
      for page in pages { try allocator.release(page) }
    }
    try tell(pages, .deflate, .deflating)
  }

  private func tell(_ pages: [UInt32], _ queue: BalloonQueue, _ operation: Operation) throws(GuestError) {
    guard !pages.isEmpty else { return }
    let array = cells.base + BalloonPage.pageArray
    try memory.store(bytes: pages.flatMap { [UInt8](littleEndian: $0) }, at: array)
    try cells.set(.arrayCount, UInt64(pages.count))
    try cells.set(.operation, operation.rawValue)
    let buffer = GuestBuffer(address: array, byteCount: 4 * pages.count)
    if try queues[queue.rawValue]?.add(readable: [buffer], writable: [], token: 0) == true { try submit(queue) }
  }

  /// The device has answered: what was deflated is free, and `actual` says how many pages are in the balloon (5.5.6).
  func finishOperation() throws(GuestError) {
    let operation = Operation(rawValue: try cells.get(.operation))
    if operation == .deflating, features.contains(.mustTellHost) {
      let count = min(try cells.get(.arrayCount), BalloonPage.mostArrayPages)
      for index in 0..<count {
        let page = try memory.load(UInt32.self, at: cells.base + BalloonPage.pageArray + 4 * index)
        try allocator.release(page)
      }
    }
    try cells.set(.operation, Operation.none.rawValue)
    let actual = UInt32(truncatingIfNeeded: try allocator.count(of: .balloon))
    try transported { () throws(TransportError) in
      try transport.writeConfig([UInt8](littleEndian: actual), at: BalloonConfigOffset.actual)
    }
  }

  /// The guest is out of memory: asks for pages of the balloon, if that was agreed on.
  ///
  /// - Returns: whether some will come.
  func deflateOnOOM() throws(GuestError) -> Bool {
    guard features.contains(.deflateOnOOM), try !isBroken() else { return false }
    // Pages on their way out will do.
    if try allocator.count(of: .deflating) > 0 { return true }
    guard try allocator.count(of: .balloon) > 0 else { return false }
    try cells.set(.oomWanted, BalloonPage.mostArrayPages)
    return true
  }
}

/// Memory statistics (5.5.6.4).
extension BalloonDriver {
  /// Sends fresh figures. The device keeps the buffer and gives it back when it wants others.
  func sendStatistics() throws(GuestError) {
    guard let queue = queues[BalloonQueue.statistics.rawValue] else { return }
    let figures = try GuestFigures(allocator, totalShrinks: !features.contains(.deflateOnOOM))
    var bytes: [UInt8] = []
    for tag in StatisticTag.allCases {
      let value = try value(of: tag, figures)
      bytes += [UInt8(truncatingIfNeeded: tag.rawValue), UInt8(truncatingIfNeeded: tag.rawValue >> 8)]
      bytes += (0..<8).map { UInt8(truncatingIfNeeded: value >> UInt64(8 * $0)) }
    }
    let place = cells.base + BalloonPage.statistics
    try memory.store(bytes: bytes, at: place)
    let buffer = GuestBuffer(address: place, byteCount: bytes.count)
    if try queue.add(readable: [buffer], writable: [], token: 0) { try submit(.statistics) }
  }

  private func value(of tag: StatisticTag, _ figures: GuestFigures) throws(GuestError) -> UInt64 {
    let boot = allocator.boot
    switch tag {
    case .swapIn, .swapOut, .hugePageAllocations, .hugePageFailures, .asyncScan, .asyncReclaim: return 0
    case .majorFaults: return try boot.get(.counter(.majorFaults))
    case .minorFaults: return try boot.get(.counter(.minorFaults))
    case .free: return figures.freeByteCount
    case .total: return figures.totalByteCount
    case .available: return figures.availableByteCount
    case .diskCaches: return figures.cacheByteCount
    case .oomKills: return try boot.get(.counter(.oomKills))
    case .allocationStalls: return try boot.get(.counter(.allocationStalls))
    case .directScan: return try boot.get(.counter(.directScans)) << GuestPage.shift
    case .directReclaim: return try boot.get(.counter(.directReclaims)) << GuestPage.shift
    }
  }
}
