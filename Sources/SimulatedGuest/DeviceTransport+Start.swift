import GuestRAM

/// The steps of 3.1.1 that all drivers have alike.
extension DeviceTransport {
  /// Resets the device and agrees on features with it: steps 1 to 6.
  ///
  /// - Parameter choose: which feature bits to take of those offered.
  /// - Returns: the bits that the device has accepted.
  func agree(_ choose: (UInt64) -> UInt64) throws(GuestError) -> UInt64 {
    let status = DriverStatus.acknowledge | DriverStatus.driver | DriverStatus.featuresOK
    let (chosen, answer) = try transported { () throws(TransportError) in
      try writeStatus(0)
      try writeStatus(DriverStatus.acknowledge)
      try writeStatus(DriverStatus.acknowledge | DriverStatus.driver)
      let chosen = choose(try readFeatures())
      try writeFeatures(chosen)
      try writeStatus(status)
      return (chosen, try readStatus())
    }
    guard answer & DriverStatus.featuresOK != 0 else { throw .featuresRefused(chosen) }
    return chosen
  }

  /// Says that the driver is set up: step 8.
  func finishStart() throws(TransportError) {
    try writeStatus(
      DriverStatus.acknowledge | DriverStatus.driver | DriverStatus.featuresOK | DriverStatus.driverOK)
  }

  /// Sets a device up, and tells it when that has failed.
  func starting<Driver>(_ body: () throws(GuestError) -> Driver) throws(GuestError) -> Driver {
    do throws(GuestError) {
      return try body()
    } catch {
      // The device may be gone; then it needs no telling.
      try? writeStatus(DriverStatus.failed | DriverStatus.acknowledge | DriverStatus.driver)
      throw error
    }
  }

  /// Lays an empty queue out in the kernel's memory, no larger than the device or the driver wants it.
  func layOut(
    _ number: Int, mostEntries: UInt16, _ features: UInt64, _ allocator: GuestAllocator
  ) throws(GuestError) -> DriverQueue {
    let size = min(mostEntries, try transported { () throws(TransportError) in try largestQueueSize(of: number) })
    guard size > 0 else { throw .missingQueue(number) }
    let queue = try DriverQueue(
      at: allocator.kernelRun(byteCount: DriverQueue.byteCount(size: size)), size: size,
      options: DriverQueue.Options(features), memory: allocator.memory)
    try queue.format()
    return queue
  }

  /// Whether the device wants to be reset, or is being.
  func needsReset() throws(GuestError) -> Bool {
    try transported { () throws(TransportError) in try readStatus() } & DriverStatus.needsReset != 0
  }

  /// Makes what was added to a queue available, and tells the device if it wants to be told.
  func submit(_ queue: DriverQueue, number: Int) throws(GuestError) {
    guard try queue.publish() else { return }
    try transported { () throws(TransportError) in try notify(queue: number) }
  }
}
