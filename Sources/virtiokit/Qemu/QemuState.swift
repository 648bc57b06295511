import DeviceState

/// What goes with a QEMU guest's memory: what is to be done with it on arrival, and QEMU's own stream as it is.
struct QemuState: Equatable {
  /// What the destination does once the guest is its own.
  struct Orders: SavedState {
    static let section = "qemu-guest"
    static let version = 1

    /// Whether the guest is to run: not if somebody had paused it.
    var runs = true
    /// The memory that it is to get back from its balloon, in bytes; 0 for what it has.
    var balloonBytes: UInt64 = 0

    mutating func code(with coder: inout some StateCoder) throws(StateError) {
      try coder.field("runs", &runs)
      try coder.field("balloonBytes", &balloonBytes)
    }
  }

  private static let stream = (name: "qemu-stream", version: 1)

  var orders: Orders
  /// Opaque here: what QEMU saved of processors and devices.
  var stream: [UInt8]

  init(orders: Orders, stream: [UInt8]) {
    self.orders = orders
    self.stream = stream
  }

  func encoded() throws(StateError) -> [UInt8] {
    var snapshot = Snapshot(producer: "virtiokit", producerVersion: Virtiokit.version)
    try snapshot.add(orders)
    try snapshot.add(SnapshotSection(name: Self.stream.name, version: Self.stream.version, payload: stream))
    return snapshot.encoded()
  }

  init(decoding bytes: [UInt8]) throws(StateError) {
    var snapshot = try Snapshot(decoding: bytes)
    orders = try snapshot.take(Orders.self)
    guard let section = snapshot.sections.first(where: { $0.name == Self.stream.name }) else {
      throw .missingSection(section: Self.stream.name)
    }
    guard section.version == Self.stream.version else {
      throw .unsupportedSectionVersion(
        section: section.label, version: section.version, newest: Self.stream.version)
    }
    stream = section.payload
    let unknown = snapshot.sections.filter { $0 != section && !$0.isOptional }.map(\.label)
    guard unknown.isEmpty else { throw .unknownSections(unknown) }
  }
}
