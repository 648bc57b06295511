import VirtioCore
public import VirtioNet

extension NetDevice: RecordableDevice {
  public mutating func obey(_ order: Act) -> Bool {
    switch (order.kind, order.numbers.first) {
    case (.setLink, let isUp?): setLink(isUp: isUp != 0)
    case (.setMTU, let mtu?): setMTU(UInt16(clamping: mtu))
    case (.announce, let address): announce(address.flatMap(EthernetAddress.init(rawValue:)))
    default: return false
    }
    return true
  }
}

extension RecordedDevice where Model == NetDevice {
  /// A card that is recorded.
  ///
  /// - Parameters:
  ///   - ports: one for all pairs of queues, or one for each.
  ///   - report: told why a port carries nothing any more, once for each reason.
  public init(
    _ options: NetOptions, ports: [any PacketPort], to sink: RecordingSink,
    report: @escaping (PortError) -> Void = { _ in }
  ) {
    let recorder = Recorder(of: .network, NetSetup(options, portCount: ports.count), to: sink)
    let recorded = ports.enumerated().map { RecordedPort($1, $0, recorder: recorder) }
    self.init(NetDevice(options, ports: recorded, report: report), recorder: recorder)
  }

  /// See `NetDevice`.
  public mutating func setLink(isUp: Bool) {
    obey(Act(.setLink, isUp ? 1 : 0)) { $0.setLink(isUp: isUp) }
  }

  /// See `NetDevice`.
  public mutating func setMTU(_ mtu: UInt16) {
    obey(Act(.setMTU, UInt64(mtu))) { $0.setMTU(mtu) }
  }

  /// See `NetDevice`.
  public mutating func announce(_ address: EthernetAddress? = nil) {
    var order = Act(.announce)
    order.numbers = address.map { [$0.rawValue] } ?? []
    obey(order) { $0.announce(address) }
  }
}
