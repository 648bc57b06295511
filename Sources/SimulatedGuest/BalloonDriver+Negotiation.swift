import GuestRAM

/// The steps of 3.1.1.
extension BalloonDriver {
  /// Resets the device, agrees on features, sets queues up and starts it.
  ///
  /// - Parameter poison: what the guest fills free pages with, if it does (5.5.6.6).
  static func start(
    _ options: Options, poison: UInt32?, transport: any DeviceTransport, supply: PageSupply
  ) throws(GuestError) -> BalloonDriver {
    try transport.starting { () throws(GuestError) in try negotiate(options, poison, transport, supply) }
  }

  private static func negotiate(
    _ options: Options, _ poison: UInt32?, _ transport: any DeviceTransport, _ supply: PageSupply
  ) throws(GuestError) -> BalloonDriver {
    let features = try transport.agree { choose(options, poison, from: $0) }
    let driver = try create(options, features, transport, supply)
    try transported { () throws(TransportError) in
      if driver.features.contains(.pagePoison), let poison {
        try transport.writeConfig([UInt8](littleEndian: poison), at: BalloonConfigOffset.poison)
      }
      for name in BalloonQueue.allCases {
        guard let queue = driver.queues[name.rawValue], let number = driver.number(of: name) else { continue }
        try transport.startQueue(number, queue.addresses)
      }
      try transport.finishStart()
    }
    try driver.sendStatistics()
    return driver
  }

  /// Like Linux: poison is agreed on only if the guest poisons; a guest that poisons and cannot say so does not report
  /// free pages, since they would come back without the value.
  private static func choose(_ options: Options, _ poison: UInt32?, from offered: UInt64) -> UInt64 {
    var own = options.features.intersection(Features(rawValue: offered))
    if poison == nil {
      own.remove(.pagePoison)
    } else if !own.contains(.pagePoison) {
      own.remove(.reporting)
    }
    return own.rawValue | (options.ring.featureBits | RingFeatureBit.version1) & offered
  }

  /// Lays the driver's page and its queues out in guest memory.
  private static func create(
    _ options: Options, _ negotiated: UInt64, _ transport: any DeviceTransport, _ supply: PageSupply
  ) throws(GuestError) -> BalloonDriver {
    let page = try supply.allocator.kernelRun(byteCount: UInt64(GuestPage.byteCount))
    let cells = Cells<BalloonCell>(memory: supply.allocator.memory, base: page)
    try supply.allocator.memory.store(bytes: [UInt8](repeating: 0, count: GuestPage.byteCount), at: page)
    try cells.set(.features, negotiated)
    try cells.set(.numbering, options.numbering.rawValue)
    try supply.allocator.boot.set(.balloonPage, page.rawValue)

    let bare = try BalloonDriver(at: page, transport: transport, supply: supply, pending: Interrupts())
    for name in BalloonQueue.allCases {
      guard let number = bare.number(of: name) else { continue }
      try bare.layOut(name, number, negotiated)
    }
    return try BalloonDriver(at: page, transport: transport, supply: supply, pending: .all)
  }

  private func layOut(
    _ name: BalloonQueue, _ number: Int, _ features: UInt64
  ) throws(GuestError) {
    let queue = try transport.layOut(number, mostEntries: name.wantedSize, features, allocator)
    try cells.set(.queueAddress(name), queue.descriptorTable.rawValue)
    try cells.set(.queueSize(name), UInt64(queue.size))
  }
}

extension GuestAllocator {
  /// Whole pages for the kernel's own use.
  func kernelRun(byteCount: UInt64) throws(GuestError) -> GuestAddress {
    let count = UInt32((byteCount + UInt64(GuestPage.byteCount) - 1) >> GuestPage.shift)
    guard let page = try allocateRun(of: count, .kernel) else {
      throw .tooSmall(pageCount: UInt64(pageCount), wanted: UInt64(pageCount) + UInt64(count))
    }
    return GuestAddress(page: page)
  }
}

extension DriverQueue {
  var addresses: QueueAddresses {
    QueueAddresses(
      size: size, descriptorTable: descriptorTable, availableRing: availableRing, usedRing: usedRing)
  }
}
