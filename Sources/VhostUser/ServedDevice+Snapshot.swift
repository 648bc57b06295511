public import DeviceState
public import VirtioCore

extension ServedDevice where Device: ~Copyable {
  /// The device as it is now, with as much of the guest's memory as its rings need, for tests and for looking at. It goes
  /// on afterwards as if nothing had been.
  ///
  /// Requests under way are finished first, and none is taken meanwhile. Throws `HostError.chainsInFlight` when they are
  /// not finished after so many attempts, and `noMemory` when no front-end is connected.
  ///
  /// - Parameter wait: called between attempts, for a moment's rest.
  public func snapshot(attempts: Int, wait: () -> Void) throws(HostError) -> Snapshot {
    let wasPaused = host.isPaused
    host.pause()
    for _ in 0..<attempts where host.hasChainsInFlight {
      wait()
      host.wake()
    }
    let result = Result { () throws(HostError) in try pausedSnapshot() }
    // Who has paused it before is told of the requests that were finished.
    if wasPaused {
      wake()
    } else if host.resume() {
      lines.comeBack?()
    }
    return try result.get()
  }

  private func pausedSnapshot() throws(HostError) -> Snapshot {
    var snapshot = Snapshot()
    try host.save(into: &snapshot)
    try host.saveMemory(into: &snapshot)
    return snapshot
  }
}
