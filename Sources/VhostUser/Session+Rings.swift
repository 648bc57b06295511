import GuestRAM
import LinuxIO
import VirtioCore
import Virtqueue

/// The rings: each is started or stopped, and apart from that enabled or disabled.
///
/// A ring starts with its first kick and not before, and stops when the front-end asks for its base. Setting a running
/// ring up anew stops it too: not every front-end asks.
extension Session where Device: ~Copyable {
  /// Does what a message about one ring asks for.
  func serveRing(_ request: FrontendRequest, _ message: inout Message) throws(VhostUserError) {
    switch request {
    case .setVringNum: try setSize(try message.vringState())
    case .setVringBase: try setBase(try message.vringState())
    case .setVringAddr: try setAddresses(try message.vringAddresses())
    case .setVringEnable:
      let state = try message.vringState()
      try enable(try ring(state.index), state.value != 0)
    case .vringKick: try kicked(try ring(try message.vringState().index))
    default: try setDescriptor(request, &message)
    }
  }

  private func ring(_ index: UInt32) throws(VhostUserError) -> Ring {
    guard index < UInt32(rings.count) else { throw .noSuchRing(index, count: rings.count) }
    return rings[Int(index)]
  }

  private func setSize(_ state: VringState) throws(VhostUserError) {
    let ring = try ring(state.index)
    guard let size = UInt16(exactly: state.value), size.nonzeroBitCount == 1 else {
      throw .illegalRingSize(state.value, ring: ring.index)
    }
    try stop(ring)
    ring.size = size
  }

  private func setBase(_ state: VringState) throws(VhostUserError) {
    let ring = try ring(state.index)
    guard let base = UInt16(exactly: state.value) else { throw .illegalRingBase(state.value, ring: ring.index) }
    try stop(ring)
    ring.nextAvailable = base
  }

  private func setAddresses(_ addresses: VringAddresses) throws(VhostUserError) {
    let ring = try ring(addresses.index)
    guard let table else { throw .noMemoryTable }
    // Where it is logged may change while the ring runs, and then it goes on.
    if ring.addresses?.haveSamePlaces(as: addresses) == true { isDriverInDoubt = false } else { try stop(ring) }
    guard ring.addresses != addresses else { return }
    try close(ring)
    ring.addresses = addresses
    _ = try ring.configuration(in: table)
  }

  private func setDescriptor(_ request: FrontendRequest, _ message: inout Message) throws(VhostUserError) {
    let payload = try message.vringDescriptor()
    let ring = try ring(payload.index)
    let expected = payload.hasDescriptor ? 1 : 0
    guard message.descriptors.count == expected else {
      throw .wrongDescriptorCount(
        request: message.request, count: message.descriptors.count, expected: expected...expected)
    }
    if request == .setVringKick, !payload.hasDescriptor, !protocolFeatures.contains(.inbandNotifications) {
      throw .pollingNeeded(ring: ring.index)
    }
    do throws(LinuxError) {
      try place(message.descriptors.takeFirst(), of: request, on: ring)
    } catch {
      throw .system(error)
    }
  }

  private func place(
    _ descriptor: consuming FileDescriptor?, of request: FrontendRequest, on ring: Ring
  ) throws(LinuxError) {
    var notification: NotificationDescriptor?
    if let descriptor { notification = try NotificationDescriptor(owning: descriptor) }
    switch request {
    case .setVringCall: ring.setCall(notification)
    case .setVringErr: ring.setError(notification)
    default:
      try ring.setKick(notification, on: loop) { [weak self, unowned ring] in self?.kickArrived(ring) }
      // The driver may be waiting for what an earlier back-end did not finish, and then it never kicks.
      if ring.inflight != nil { ring.isStarted = true }
    }
  }
}

/// Running. The device's queue is open while its ring is both started and enabled: what is neither served nor looked at
/// may be overwritten by a guest that has given it up without a word.
extension Session where Device: ~Copyable {
  private func kickArrived(_ ring: Ring) {
    guarded { () throws(VhostUserError) in
      try system { () throws(LinuxError) in try ring.drainKick(on: loop) }
      try kicked(ring)
    }
  }

  private func kicked(_ ring: Ring) throws(VhostUserError) {
    ring.isStarted = true
    if device.host.isRunning(ring.index) { return serve(ring) }
    if !ring.isEnabled { return try discard(ring) }
    try openRings()
  }

  private func serve(_ ring: Ring) {
    device.host.isPolled = loop.isAboutToPoll
    if device.host.kick(ring.index) { comeBack(to: ring.index) }
  }

  /// Opens each ring that is started and enabled and of which nothing is missing any more.
  func openRings() throws(VhostUserError) {
    guard let table, !isResting, !device.host.features.isEmpty else { return }
    for ring in rings where ring.isStarted && ring.isEnabled && !device.host.isRunning(ring.index) {
      guard ring.isPlaced(in: table), let configuration = try ring.configuration(in: table) else { continue }
      guard device.host.features.contains(.version1) else { throw .host(.legacyDriver) }
      try noticeOtherDriver(of: ring)
      try host { () throws(HostError) in try device.host.startQueue(ring.index, configuration) }
      if ring.hasTooSmallArea { report(.untracked(ring: ring.index)) }
      serve(ring)
    }
  }

  var hasOpenRings: Bool { rings.contains { device.host.isRunning($0.index) } }

  /// Whether a ring has been started since the last reset.
  var hasServed: Bool {
    rings.contains { $0.isStarted || $0.restingBase != nil }
  }

  /// Stops all rings where they are, as before the guest pauses or migrates, or its driver goes.
  func suspend() throws(VhostUserError) {
    for ring in rings where ring.isStarted || ring.isComplete { try rest(ring) }
  }

  private func rest(_ ring: Ring) throws(VhostUserError) {
    isDriverInDoubt = false
    try close(ring)
    ring.isStarted = false
    ring.restingBase = ring.nextAvailable
  }

  /// Lets the device serve a ring or not, be it started or stopped.
  func enable(_ ring: Ring, _ isEnabled: Bool) throws(VhostUserError) {
    ring.isEnabled = isEnabled
    guard !isEnabled else { return }
    try close(ring)
    try discard(ring)
  }

  /// Gives back unread what is on a ring that is started but disabled, if that is the device's way. Only then, and with each
  /// kick: in between, the ring is not looked at.
  private func discard(_ ring: Ring) throws(VhostUserError) {
    guard ring.isStarted, !isResting, !device.host.features.isEmpty, ring.isPlaced(in: table), let table,
      let configuration = try ring.configuration(in: table)
    else { return }
    try noticeOtherDriver(of: ring)
    ring.nextAvailable = try host { () throws(HostError) in
      try device.host.discardBuffers(ofQueue: ring.index, configuration)
    }
  }

  /// Stops a ring for `GET_VRING_BASE`: everything that was taken from it has been given back by then.
  ///
  /// - Returns: the available index to start again from.
  func stopRing(_ state: VringState) throws(VhostUserError) -> VringState {
    let ring = try ring(state.index)
    try rest(ring)
    ring.removeKick(from: loop)
    ring.setCall(nil)
    return VringState(index: state.index, value: UInt32(ring.nextAvailable))
  }

  /// Stops a ring that is set up anew; one that is not yet complete stays kicked.
  private func stop(_ ring: Ring) throws(VhostUserError) {
    try noticeOtherDriver(settingUp: ring)
    try close(ring)
    if ring.isComplete { ring.isStarted = false }
  }

  /// Closes the device's queue; the ring itself stays started, and goes on from there when it is opened again.
  func close(_ ring: Ring) throws(VhostUserError) {
    guard device.host.isRunning(ring.index) else { return }
    ring.nextAvailable = try host { () throws(HostError) in try device.host.stopQueue(ring.index) }
  }
}
