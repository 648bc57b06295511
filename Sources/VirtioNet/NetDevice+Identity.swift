import VirtioCore

/// The card's link, and its place in the network.
extension NetDevice {
  /// Whether the driver is told that the link is up.
  public var isLinkUp: Bool { fields.isLinkUp }

  /// The card's address, which the driver may have set.
  public var address: EthernetAddress { fields.address }

  /// Why a port carries nothing any more, the first of those that do not; nil while all do.
  public var failure: PortError? {
    for port in ports { if let failure = port.failure { return failure } }
    return nil
  }

  /// Plugs the cable in or out.
  public mutating func setLink(isUp: Bool) {
    isLinkWanted = isUp
    updateLink()
  }

  /// The link is up when the operator wants it to be, and there is something to be linked with: of several ports, those
  /// that have failed end their own pairs alone.
  mutating func updateLink() {
    fields.isLinkUp = isLinkWanted && ports.contains { $0.failure == nil }
  }

  /// Looks at a lane's port that has just been called, and tells of a failure or of its end.
  @inline(__always)
  mutating func noteFailure(of lane: Lane, _ port: any PacketPort) {
    let failure = port.failure
    if failure != reported[lane.portNumber] { note(failure, of: lane) }
  }

  @inline(never)
  private mutating func note(_ failure: PortError?, of lane: Lane) {
    reported[lane.portNumber] = failure
    if let failure { report(failure) }
    updateLink()
  }

  /// Sets the largest packet that the driver is told of and, once it has agreed to that, gets (`NET_SET_MTU`). It stays for
  /// later drivers too: a front-end says it again before each start.
  public mutating func setMTU(_ mtu: UInt16) {
    fields.mtu = mtu
    settings.limitFrames(mtu: mtu, features)
  }

  /// Tells the network where the guest is now, and asks the guest to do the same.
  ///
  /// - Parameter address: of the guest; the card's own when nil.
  public mutating func announce(_ address: EthernetAddress? = nil) {
    if features.contains(.netGuestAnnounce), settings.controlQueue != nil { fields.asksToAnnounce = true }
    sendAnnouncements(of: address ?? fields.address)
  }

  /// The card's place, for switches and neighbours.
  private mutating func sendAnnouncements(of address: EthernetAddress) {
    guard let port = ports.first, fields.isLinkUp else { return }
    var batch = PacketBatch()
    batch.append(Announcement.reverseRequest(mac: address)[...])
    for name in names.ipv4 {
      batch.append(Announcement.gratuitousRequest(mac: address, address: name)[...])
    }
    for name in names.ipv6 {
      guard let frame = Announcement.neighbourAdvertisement(mac: address, address: name) else { continue }
      batch.append(frame[...])
    }
    port.send(&batch)
  }

  mutating func announceIfOwed() {
    // Without a link nobody would hear of it.
    guard owesAnnouncement, fields.isLinkUp else { return }
    owesAnnouncement = false
    announce()
  }

  /// What the driver takes undone from now on.
  mutating func setTakenOffloads(_ offloads: Offloads) {
    let takesLess = !offloads.isSuperset(of: settings.takenOffloads)
    settings.takenOffloads = offloads
    for port in ports { port.setGivenOffloads(offloads) }
    guard takesLess else { return }
    for lane in lanes {
      // Packets in front of those that are half cut cannot be cut any more.
      if lane.incomingFallback.hasMore { counters.drop(.notNegotiated, lane.dropIncoming()) }
      adaptIncoming(lane)
    }
  }
}
