public import DeviceState

/// What a network device has counted since it was made, wherever it was.
public struct NetCounters: StateRecord {
  public var receivedPackets: UInt64 = 0
  public var receivedBytes: UInt64 = 0
  public var transmittedPackets: UInt64 = 0
  public var transmittedBytes: UInt64 = 0
  /// Commands answered with `VIRTIO_NET_OK`.
  public var commands: UInt64 = 0
  /// Commands answered with `VIRTIO_NET_ERR`.
  public var refusedCommands: UInt64 = 0
  /// Packets that went nowhere, by the number of the reason.
  var dropCounts = [UInt64](repeating: 0, count: DropReason.allCases.count)

  public init() {}

  public mutating func code(with coder: inout some StateCoder) throws(StateError) {
    try coder.field("receivedPackets", &receivedPackets)
    try coder.field("receivedBytes", &receivedBytes)
    try coder.field("transmittedPackets", &transmittedPackets)
    try coder.field("transmittedBytes", &transmittedBytes)
    try coder.field("commands", &commands)
    try coder.field("refusedCommands", &refusedCommands)
    try coder.field("dropCounts", &dropCounts)
  }

  /// Packets that went nowhere, by reason; reasons without any are left out.
  public var drops: [DropReason: UInt64] {
    var drops: [DropReason: UInt64] = [:]
    for (reason, count) in zip(DropReason.allCases, dropCounts) where count > 0 { drops[reason] = count }
    return drops
  }

  mutating func drop(_ drops: [DropReason: UInt64]) {
    for (reason, count) in drops { drop(reason, Int(clamping: count)) }
  }

  mutating func drop(_ reason: DropReason, _ count: Int = 1) {
    guard count > 0 else { return }
    // Another version may know fewer or more.
    let index = Int(reason.rawValue)
    while dropCounts.count <= index { dropCounts.append(0) }
    dropCounts[index] &+= UInt64(count)
  }
}
