public import DeviceState
public import GuestRAM

/// All devices of one guest, for an owner who moves it: they stop together, are saved together, and go on together.
///
/// The guest's processors stand still before `pause` and until after `resume`, or what they ask for waits. So of every
/// request a move finds either its answer in the guest's memory or the request itself still in the ring; nothing is begun
/// here and finished elsewhere.
public struct DeviceGroup: Sendable {
  /// A device, and what it is called among those of its guest: that tells two of a kind apart in a saved state.
  public typealias Member = (instance: String, device: any MovableDevice)

  private let members: [Member]

  public init(_ members: [Member]) {
    self.members = members
  }

  /// Has every device finish what it has under way and begin nothing more. The guest may still run.
  ///
  /// - Parameter limit: how long that may take for all of them.
  /// - Throws: `stillBusy` for a request that nobody answers, such as of a server that is gone; all devices serve again.
  public func pause(within limit: Duration) throws(HostError) {
    let end = ContinuousClock.now + limit
    do throws(HostError) {
      for member in members { try member.device.pause(within: max(.zero, ContinuousClock.now.duration(to: end))) }
    } catch {
      // Why the guest could not be stopped says more than what follows from it.
      try? resume()
      throw error
    }
  }

  /// Gives paused devices up for others, elsewhere: lets go of all backends, and then adds the devices to a snapshot.
  ///
  /// They can be resumed afterwards, if the guest stays.
  public func save(into snapshot: inout Snapshot) throws(HostError) {
    for member in members { try member.device.letGo() }
    for member in members { try member.device.save(into: &snapshot, instance: member.instance) }
  }

  /// Has the devices go on from a snapshot in their guest's memory, paused until `resume`. They touch neither that memory,
  /// except to read their rings, nor their backends before.
  public func restore(from snapshot: inout Snapshot, in memory: GuestMemory, within limit: Duration) throws(HostError) {
    for member in members {
      try member.device.attach(memory, within: limit)
      try member.device.restore(from: &snapshot, instance: member.instance)
    }
  }

  /// Has all devices serve again. Every one is asked, whatever becomes of the others.
  public func resume() throws(HostError) {
    try forEach { (device) throws(HostError) in try device.resume() }
  }

  /// Gives the devices their guest's memory, or puts another map of it under them while the guest runs, as one with a dirty
  /// log when a move begins. Each finishes what it has begun in the old one first; those that are paused stay so.
  ///
  /// - Parameter limit: how long each may take.
  public func attach(_ memory: GuestMemory, within limit: Duration) throws(HostError) {
    for member in members { try member.device.attach(memory, within: limit) }
  }

  /// Has all devices forget their guest, which has gone elsewhere.
  public func reset() throws(HostError) {
    try forEach { (device) throws(HostError) in try device.reset() }
  }

  private func forEach(_ body: (any MovableDevice) throws(HostError) -> Void) throws(HostError) {
    var failure: HostError?
    for member in members {
      do throws(HostError) { try body(member.device) } catch { failure = failure ?? error }
    }
    if let failure { throw failure }
  }
}
