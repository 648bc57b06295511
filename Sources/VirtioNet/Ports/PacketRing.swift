import LinuxIO

/// Packets that wait, in the order in which they came, in a bounded stretch of memory that is taken when the first comes.
struct PacketRing: ~Copyable, Sendable {
  /// What becomes of a frame's VLAN tag when it is copied.
  enum TagChange: Equatable {
    case none
    /// A tag with this control information goes in front of the frame's type.
    case insertion(UInt16)
    /// The tag that is there gets other control information.
    case replacement(UInt16)
    case removal
  }

  private struct Place {
    var start = 0
    /// Of header and frame.
    var byteCount = 0
    var stamp: UInt64 = 0
  }

  private let byteCount: Int
  private let packetCount: Int
  private var bytes: [UInt8] = []
  private var places: [Place] = []
  private var first = 0
  private var end = 0
  private(set) var count = 0

  /// - Parameters:
  ///   - packetCount: how many packets wait at most, at least 1.
  ///   - byteCount: how many bytes they take at most, with their headers; enough for one of the largest at least.
  init(packetCount: Int, byteCount: Int) {
    self.byteCount = max(byteCount, NetHeader.byteCount + PacketBatch.largestFrameByteCount)
    self.packetCount = max(1, packetCount)
  }

  var isEmpty: Bool { count == 0 }

  /// What the first packet was given as it was added; nil when there is none.
  var firstStamp: UInt64? { isEmpty ? nil : places[first].stamp }

  /// Adds a copy of a packet.
  /// - Parameters:
  ///   - packet: where its header and its frame lie in `source`; a change of its tag needs the tag, and a header that
  ///     names places in the frame behind it.
  ///   - stamp: what its owner wants to remember of it.
  /// - Returns: false, with nothing added, when there is no room.
  mutating func append(
    _ packet: Range<Int>, of source: [UInt8], _ change: TagChange = .none, stamp: UInt64 = 0
  ) -> Bool {
    if places.isEmpty { allocate() }
    let byteCount = packet.count + change.growth
    guard count < places.count, let start = room(for: byteCount) else { return false }
    if change == .none {
      bytes.copy(packet, of: source, to: start)
    } else {
      copy(packet, of: source, to: start, change)
    }
    let next = first + count
    places[next < places.count ? next : next - places.count] = Place(start: start, byteCount: byteCount, stamp: stamp)
    count += 1
    end = start + byteCount
    return true
  }

  /// Moves packets to the end of a batch, until there are none or it has no room.
  /// - Returns: how many it were.
  mutating func move(into batch: inout PacketBatch) -> Int {
    let before = count
    while moveFirst(into: &batch) {}
    return before - count
  }

  /// Moves the first packet to the end of a batch.
  /// - Returns: false, with nothing done, when there is none, or the batch has no room for it.
  mutating func moveFirst(into batch: inout PacketBatch) -> Bool {
    guard count > 0 else { return false }
    let place = places[first]
    let frameByteCount = place.byteCount - NetHeader.byteCount
    guard batch.hasRoom(for: frameByteCount) else { return false }
    let start = batch.nextPacket
    batch.bytes.copy(place.start..<place.start + place.byteCount, of: bytes, to: start)
    batch.commit(frameByteCount)
    first = first + 1 < places.count ? first + 1 : 0
    count -= 1
    return true
  }

  mutating func removeAll() {
    count = 0
  }

  private mutating func allocate() {
    bytes = [UInt8](repeating: 0, count: byteCount)
    places = [Place](repeating: Place(), count: packetCount)
  }

  /// Where a packet of so many bytes goes, in one piece.
  private func room(for byteCount: Int) -> Int? {
    guard count > 0 else { return byteCount <= bytes.count ? 0 : nil }
    let head = places[first].start
    guard end > head else { return head - end >= byteCount ? end : nil }
    if bytes.count - end >= byteCount { return end }
    return head >= byteCount ? 0 : nil
  }

  private mutating func copy(_ packet: Range<Int>, of source: [UInt8], to start: Int, _ change: TagChange) {
    // The header and both addresses.
    let leading = NetHeader.byteCount + 12
    bytes.copy(packet.prefix(leading), of: source, to: start)
    var written = start + leading
    if let tag = change.tag {
      bytes.setBigEndian16(EthernetHead.tagType, at: written)
      bytes.setBigEndian16(tag, at: written + 2)
      written += 4
    }
    let rest = packet.dropFirst(leading + (change.takesTag ? 4 : 0))
    bytes.copy(rest, of: source, to: written)
    moveChecksum(ofPacketAt: start, by: change.growth)
  }

  /// A checksum that is still to be done has moved with the frame's type.
  private mutating func moveChecksum(ofPacketAt start: Int, by growth: Int) {
    guard growth != 0, var header = NetHeader(bytes, at: start) else { return }
    let growth = UInt16(truncatingIfNeeded: growth)
    if header.flags.contains(.needsChecksum) { header.checksumStart &+= growth }
    if header.headersByteCount != 0 { header.headersByteCount &+= growth }
    header.store(in: &bytes, at: start)
  }
}

extension PacketRing.TagChange {
  /// By how many bytes the frame grows.
  var growth: Int {
    switch self {
    case .none, .replacement: 0
    case .insertion: 4
    case .removal: -4
    }
  }

  fileprivate var tag: UInt16? {
    switch self {
    case .insertion(let tag), .replacement(let tag): tag
    case .none, .removal: nil
    }
  }

  fileprivate var takesTag: Bool {
    switch self {
    case .replacement, .removal: true
    case .none, .insertion: false
    }
  }
}
