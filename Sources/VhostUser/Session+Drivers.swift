import VirtioCore

/// One driver after another. No message says that there is another one, but each front-end gives it away.
extension Session where Device: ~Copyable {
  /// A front-end stops its rings in the same way when the guest pauses and when its driver goes.
  func noticeOtherDriver(of ring: Ring) throws(VhostUserError) {
    // Who broke the device has to be another than who starts it: nobody goes on with a queue that it broke.
    let isBroken = device.host.isBroken
    guard let base = ring.restingBase.take(), base != ring.nextAvailable || isBroken, !hasOpenRings else { return }
    try host { () throws(HostError) in try device.host.restartModel() }
  }

  /// Tells two reasons apart why the same features may come again. QEMU says them once for each pair of queues of a network
  /// card, while the rings of the pairs before are used. User-Mode Linux says them because there is another driver, and
  /// nothing else; but a driver does not move a ring that it uses.
  func noticeOtherDriver(settingUp ring: Ring) throws(VhostUserError) {
    guard isDriverInDoubt else { return }
    if ring.isInUse { try forgetDriver() } else { isDriverInDoubt = false }
  }

  /// Forgets a driver that went without a word, and its rings. Its features are the next one's too.
  func forgetDriver() throws(VhostUserError) {
    isDriverInDoubt = false
    for ring in rings {
      try close(ring)
      try ring.forgetPlace()
    }
    try host { () throws(HostError) in try device.host.restartModel() }
  }
}
