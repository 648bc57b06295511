public import DeviceState
public import GuestRAM
import LinuxIO

/// A device of whatever kind, as the owner of its guest stops it, saves it, and has it go on here or elsewhere.
///
/// Each call waits until the device has done it. None may be made on the device's own thread.
public protocol MovableDevice: Sendable {
  /// Takes no more requests and finishes those that it has, all of whose stores are made and logged then.
  ///
  /// - Throws: `stillBusy` when that takes longer. The device stays paused, and is to be resumed.
  func pause(within limit: Duration) throws(HostError)
  /// Serves again, at first whatever came in the meantime, and takes back what it had let go of.
  func resume() throws(HostError)
  /// Gives the device the guest's memory, or another map of it once it has finished what it has begun in the old one
  /// (`DeviceHost.attach`). A paused device stays paused, and any other serves on, after an error too.
  func attach(_ memory: GuestMemory, within limit: Duration) throws(HostError)
  /// Gives up what only one device may use at a time; see `DeviceHost.letGo`.
  func letGo() throws(HostError)
  /// Adds the paused device to a snapshot; see `DeviceHost.save`.
  func save(into snapshot: inout Snapshot, instance: String) throws(HostError)
  /// Goes on from a snapshot, paused; see `DeviceHost.restore`.
  func restore(from snapshot: inout Snapshot, instance: String) throws(HostError)
  /// Forgets its driver, which has gone elsewhere.
  func reset() throws(HostError)
}

extension DeviceThread: MovableDevice where Device: ~Copyable {
  public func pause(within limit: Duration) throws(HostError) {
    try demand { (host) in host.pause() }
    let ticket = QuietWait.Ticket()
    // Of a thread that has ended nothing is left but the ticket.
    inbox.post(.await(QuietWait(ticket)))
    switch ticket.wait(within: limit) {
    case .quiet: return
    case .gone: throw .gone
    case nil: throw .stillBusy(limit)
    }
  }

  public func resume() throws(HostError) {
    let hasMore = try demand { (host) in host.resume() }
    if hasMore { kick(0) }
  }

  public func attach(_ memory: GuestMemory, within limit: Duration) throws(HostError) {
    guard try !demand({ (host) in host.isPaused }) else { return try put(memory) }
    let outcome = Result { () throws(HostError) in
      try pause(within: limit)
      try put(memory)
    }
    let resumption = Result { () throws(HostError) in try resume() }
    try outcome.get()
    try resumption.get()
  }

  private func put(_ memory: GuestMemory) throws(HostError) {
    try demand { (host) throws(HostError) in try host.attach(memory) }
  }

  public func letGo() throws(HostError) {
    try demand { (host) throws(HostError) in try host.letGo() }
  }

  public func save(into snapshot: inout Snapshot, instance: String) throws(HostError) {
    let before = snapshot
    snapshot = try demand { (host) throws(HostError) in
      var snapshot = before
      try host.save(into: &snapshot, instance: instance)
      return snapshot
    }
  }

  public func restore(from snapshot: inout Snapshot, instance: String) throws(HostError) {
    let before = snapshot
    snapshot = try demand { (host) throws(HostError) in
      var snapshot = before
      try host.restore(from: &snapshot, instance: instance)
      return snapshot
    }
  }

  public func reset() throws(HostError) {
    try demand { (host) in host.reset() }
  }

  /// Does something on the device's thread, and throws what it throws.
  private func demand<Answer: Sendable>(
    _ work: @escaping @Sendable (inout DeviceHost<Device>) throws(HostError) -> Answer
  ) throws(HostError) -> Answer {
    let answer: Result<Answer, HostError>?
    do throws(LinuxError) {
      answer = try call { (host) in
        do throws(HostError) { return .success(try work(&host)) } catch { return .failure(error) }
      }
    } catch {
      throw .system(error)
    }
    guard let answer else { throw .gone }
    return try answer.get()
  }
}
