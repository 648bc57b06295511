import DeviceState

/// How long notifications may be held back (5.1.6.5.9). It is kept for the driver; the device notifies once a batch,
/// which the specification allows, since all of it is best effort.
struct Coalescing: StateRecord {
  /// `struct virtio_net_ctrl_coal`
  struct Limits: StateRecord {
    var packets: UInt32 = 0
    var microseconds: UInt32 = 0

    init() {}

    mutating func code(with coder: inout some StateCoder) throws(StateError) {
      try coder.field("packets", &packets)
      try coder.field("microseconds", &microseconds)
    }
  }

  var receive = Limits()
  var transmit = Limits()

  init() {}

  mutating func code(with coder: inout some StateCoder) throws(StateError) {
    try coder.field("receive", &receive)
    try coder.field("transmit", &transmit)
  }
}
