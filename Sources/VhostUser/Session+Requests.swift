import LinuxIO
import VirtioCore

/// Taking messages apart by their numbers.
extension Session where Device: ~Copyable {
  /// What a message leads to.
  enum Outcome {
    /// Success, told when the front-end asks for it.
    case done
    /// The answer that this message always has.
    case reply([UInt8])
    /// An answer of its own that is sent already.
    case answered
    /// Nothing that this back-end can do.
    case unsupported
  }

  /// `VHOST_USER_F_PROTOCOL_FEATURES` and `VHOST_F_LOG_ALL`, feature bits that no driver sees.
  private static var protocolFeaturesBit: UInt64 { 1 << 30 }
  private static var logBit: UInt64 { 1 << 26 }

  private var offeredBits: UInt64 { Self.protocolFeaturesBit | (offered.contains(.sharedLog) ? Self.logBit : 0) }

  /// Does what a message asks for, and answers when an answer is due.
  func answer(_ message: inout Message) throws(VhostUserError) {
    guard !message.flags.contains(.reply) else { throw .wrongDirection(request: message.request) }
    let isAwaited = message.flags.contains(.needReply)
    switch try outcome(of: &message) {
    case .done:
      if isAwaited { try reply(to: message.request, UInt64(0).encoded) }
    case .reply(let payload): try reply(to: message.request, payload)
    case .answered: break
    case .unsupported:
      // Without a way to refuse, the front-end would wait for an answer, or take for done what is not.
      let wantsContents = FrontendRequest(rawValue: message.request)?.hasReply ?? false
      guard isAwaited, !wantsContents else { throw .unsupported(request: message.request) }
      try reply(to: message.request, UInt64(1).encoded)
    }
    try openRings()
  }

  private func reply(to request: UInt32, _ payload: [UInt8]) throws(VhostUserError) {
    try connection.send(request, flags: .reply, payload: payload)
  }

  private func outcome(of message: inout Message) throws(VhostUserError) -> Outcome {
    if acknowledgesMemory(message) {
      try useArrivedMemory(message)
      return .done
    }
    guard let request = FrontendRequest(rawValue: message.request) else { return .unsupported }
    guard request.descriptorCounts.contains(message.descriptors.count) else {
      throw .wrongDescriptorCount(
        request: message.request, count: message.descriptors.count, expected: request.descriptorCounts)
    }
    if let needed = request.neededFeature, !protocolFeatures.isSuperset(of: needed) { return .unsupported }
    return try outcome(of: request, &message)
  }

  private func outcome(of request: FrontendRequest, _ message: inout Message) throws(VhostUserError) -> Outcome {
    switch request {
    case .getFeatures, .getProtocolFeatures, .getQueueNum, .getStatus, .getConfig, .getMaxMemSlots:
      return .reply(try contents(for: request, message))
    case .getVringBase: return .reply(try stopRing(try message.vringState()).encoded)
    case .setDeviceStateFd: return .reply(try startStateTransfer(&message).encoded)
    case .checkDeviceState: return .reply(try checkState(message).encoded)
    case .setMemTable: return try setMemoryTable(&message)
    case .addMemReg: return try addRegion(&message)
    case .remMemReg: return try removeRegion(message)
    case .postcopyAdvise:
      try advisePostcopy(message)
      return .answered
    case .postcopyEnd:
      try endPostcopy(message)
      return .reply(UInt64(0).encoded)
    case .setLogBase:
      try setLog(&message)
      return .reply(UInt64(0).encoded)
    case .getInflightFd:
      try sendInflightRegion(for: message)
      return .answered
    default: return try perform(request, &message) ? .done : .unsupported
    }
  }

  /// Does what needs no other answer than whether it was done.
  /// - Returns: false for a request that is none of those.
  private func perform(_ request: FrontendRequest, _ message: inout Message) throws(VhostUserError) -> Bool {
    switch request {
    case .setFeatures: try setFeatures(try message.number())
    case .setProtocolFeatures: try setProtocolFeatures(try message.number())
    case .setOwner, .resetOwner: try message.checkNoPayload()
    case .setStatus: try setStatus(try message.number())
    case .setConfig: try setConfig(try message.config())
    case .sendRarp: announce(try message.number())
    case .netSetMtu: try setMTU(try message.number())
    case .resetDevice:
      try message.checkNoPayload()
      try resetDevice()
    case .postcopyListen: try listenForPostcopy(message)
    case .setInflightFd: try setInflightRegion(&message)
    // The log may be looked at at any time, so its owner needs no signal.
    case .setLogFd: try message.checkNoPayload()
    case .setBackendReqFd: try setBackendChannel(&message)
    case .setVringNum, .setVringAddr, .setVringBase, .setVringKick, .setVringCall, .setVringErr, .setVringEnable,
      .vringKick:
      try serveRing(request, &message)
    default: return false
    }
    return true
  }

  private func contents(
    for request: FrontendRequest, _ message: borrowing Message
  ) throws(VhostUserError) -> [UInt8] {
    if request == .getConfig {
      let asked = try message.config()
      let bytes = device.host.readConfig(at: Int(asked.offset), byteCount: asked.bytes.count)
      return ConfigPayload(offset: asked.offset, flags: asked.flags, bytes: bytes).encoded
    }
    try message.checkNoPayload()
    return switch request {
    case .getFeatures: (device.host.offeredFeatures.low | offeredBits).encoded
    case .getProtocolFeatures: offered.rawValue.encoded
    case .getQueueNum: UInt64(rings.count).encoded
    case .getMaxMemSlots: UInt64(MemoryTable.mostSlots).encoded
    default: UInt64(status.union(device.host.status.intersection(.needsReset)).rawValue).encoded
    }
  }

  /// A front-end that leaves the protocol's bit out never enables a ring, so all of them are.
  private func setFeatures(_ bits: UInt64) throws(VhostUserError) {
    let chosen = Features(low: bits & ~offeredBits)
    guard chosen.isSubset(of: device.host.offeredFeatures) else { throw .featuresNotOffered(bits) }
    if chosen != device.host.features, rings.contains(where: \.isStarted) { try resetDevice() }
    try host { () throws(HostError) in try device.host.acceptFeatures(chosen) }
    let isLogging = bits & offeredBits & Self.logBit != 0
    // A front-end that only begins or ends to log what its driver has written has the same driver.
    isDriverInDoubt = isLogging == self.isLogging && rings.contains(where: \.isInUse)
    try setLogging(isLogging)
    guard bits & Self.protocolFeaturesBit == 0 else { return }
    for ring in rings { try enable(ring, true) }
  }

  private func setProtocolFeatures(_ bits: UInt64) throws(VhostUserError) {
    let chosen = ProtocolFeatures(rawValue: bits)
    guard chosen.isSubset(of: offered) else {
      throw .protocolFeaturesNotOffered(bits & ~offered.rawValue)
    }
    protocolFeatures = chosen
  }

  /// QEMU writes 0 whenever it stops the device, version 7.2 even before it asks its rings for their bases: then the guest
  /// may go on later or elsewhere. Whether another driver comes instead shows when the rings start.
  private func setStatus(_ number: UInt64) throws(VhostUserError) {
    guard let byte = UInt8(exactly: number) else { throw .illegalStatus(number) }
    if byte == 0 {
      if hasServed, !device.host.isBroken { try suspend() } else { try resetDevice() }
    }
    status = DeviceStatus(rawValue: byte)
  }

  private func setConfig(_ config: ConfigPayload) throws(VhostUserError) {
    if isDriverInDoubt { try forgetDriver() }
    try host { () throws(HostError) in try device.host.writeConfig(config.bytes, at: Int(config.offset)) }
  }

  private func announce(_ address: UInt64) {
    device.host.update { device in self.device.networkMessages?.announce(&device, Array(address.encoded.prefix(6))) }
  }

  private func setMTU(_ number: UInt64) throws(VhostUserError) {
    guard let mtu = UInt16(exactly: number), mtu >= 68 else { throw .illegalMTU(number) }
    device.host.update { device in self.device.networkMessages?.setMTU(&device, mtu) }
  }

  private func setBackendChannel(_ message: inout Message) throws(VhostUserError) {
    try message.checkNoPayload()
    guard let descriptor = message.descriptors.takeFirst() else { return }
    channel?.close()
    do throws(LinuxError) {
      channel = try BackendChannel(
        UnixSocket(owning: descriptor), on: loop, wantsReplies: protocolFeatures.contains(.replyAck)
      ) { [weak self] in self?.failSoon($0) }
    } catch {
      throw .system(error)
    }
  }

  /// Back to the state in which a driver finds the device. What is known of memory stays.
  func resetDevice() throws(VhostUserError) {
    device.host.reset()
    isDriverInDoubt = false
    status = []
    for ring in rings {
      try enable(ring, false)
      try ring.forgetPlace()
    }
  }
}
