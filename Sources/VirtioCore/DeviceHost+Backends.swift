/// What only one device may use at a time: a disk's image, a place in the network.
extension DeviceHost where Device: ~Copyable {
  /// Gives up what only one device may use at a time, for another that goes on from this one's state: what was written is
  /// on the medium then, and what was sent has gone out. `resume` takes it again.
  ///
  /// What the model finds out meanwhile, as that a flush fails, is part of its state: save it afterwards.
  /// - Throws: `notPaused`, and for a device that is not quiet `chainsInFlight`, or `workElsewhere` for what the device
  ///   has begun though its driver does not wait for it any more.
  public mutating func letGo() throws(HostError) {
    guard isPaused else { throw .notPaused }
    for index in 0..<queueCount {
      guard let slot = queues.slots[index] else { continue }
      _ = try restingIndex(index, slot)
    }
    guard isQuiet else { throw .workElsewhere }
    giveUpBackends()
  }

  /// Lets the model have its backends, if it has not. What it learns of them may be news for the driver.
  mutating func takeBackends() {
    guard !hasBackends else { return }
    hasBackends = true
    let config = device.config
    device.setRunning(true)
    noticeConfigChange(since: config)
  }

  mutating func giveUpBackends() {
    guard hasBackends else { return }
    hasBackends = false
    device.setRunning(false)
  }
}
