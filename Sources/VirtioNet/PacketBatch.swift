import LinuxIO

/// Packets on their way between a card and a port: frames in one stretch of memory, each behind its header.
///
/// A packet is copied once on its way, so that what was checked is what is sent, whatever a guest does to its memory
/// meanwhile. A batch never grows; what does not fit waits for the next.
public struct PacketBatch: ~Copyable, Sendable {
  /// The longest frame: an IP packet of 65535 bytes behind an Ethernet header with two VLAN tags.
  public static let largestFrameByteCount = 65535 + 14 + 8
  /// The most packets in a batch.
  public static let largestCount = 64
  /// The shortest frame: an Ethernet header.
  public static let smallestFrameByteCount = 14

  /// Where a frame lies.
  private struct Place {
    var start: Int
    var byteCount: Int
  }

  /// The memory that all packets are in. A packet's header takes the twelve bytes in front of its frame.
  public internal(set) var bytes: [UInt8]
  private var places: [Place]
  /// How many packets have been taken off the front.
  private var taken = 0
  private var end = 0

  /// - Parameter byteCount: room for headers and frames; for at least one of the largest.
  public init(byteCount: Int = 256 << 10) {
    bytes = [UInt8](repeating: 0, count: max(byteCount, NetHeader.byteCount + Self.largestFrameByteCount))
    places = []
    places.reserveCapacity(Self.largestCount)
  }

  /// How many packets there are.
  public var count: Int { places.count - taken }
  public var isEmpty: Bool { places.count == taken }

  /// Whether a frame of so many bytes can be added.
  public func hasRoom(for byteCount: Int = largestFrameByteCount) -> Bool {
    places.count < Self.largestCount && bytes.count - end >= NetHeader.byteCount + byteCount
  }

  /// Where a packet's frame lies in `bytes`. The first packet is number 0.
  public func frame(_ index: Int) -> Range<Int> {
    let place = places[taken + index]
    return place.start..<place.start + place.byteCount
  }

  /// Where a packet lies in `bytes`: its header, and its frame right behind it.
  public func packet(_ index: Int) -> Range<Int> {
    let frame = frame(index)
    return frame.lowerBound - NetHeader.byteCount..<frame.upperBound
  }

  /// A packet's header; nil for one of an unknown kind.
  public func header(_ index: Int) -> NetHeader? {
    NetHeader(bytes, at: packet(index).lowerBound)
  }

  public mutating func setHeader(_ header: NetHeader, _ index: Int) {
    header.store(in: &bytes, at: packet(index).lowerBound)
  }

  /// Adds a copy of a frame.
  /// - Returns: false, with nothing added, when there is no room.
  @discardableResult
  public mutating func append(_ frame: ArraySlice<UInt8>, _ header: NetHeader = NetHeader()) -> Bool {
    guard hasRoom(for: frame.count) else { return false }
    let start = end + NetHeader.byteCount
    header.store(in: &bytes, at: end)
    bytes.replaceSubrange(start..<start + frame.count, with: frame)
    commit(frame.count)
    return true
  }

  /// Adds a copy of a frame that is part of other bytes.
  /// - Returns: false, with nothing added, when there is no room.
  @discardableResult
  mutating func append(_ frame: Range<Int>, of source: [UInt8], _ header: NetHeader = NetHeader()) -> Bool {
    guard hasRoom(for: frame.count) else { return false }
    header.store(in: &bytes, at: end)
    bytes.copy(frame, of: source, to: end + NetHeader.byteCount)
    commit(frame.count)
    return true
  }

  /// Adds a copy of another batch's packet.
  /// - Returns: false, with nothing added, when there is no room.
  @discardableResult
  public mutating func append(packet index: Int, of other: borrowing PacketBatch) -> Bool {
    let packet = other.packet(index)
    guard hasRoom(for: packet.count - NetHeader.byteCount) else { return false }
    bytes.copy(packet, of: other.bytes, to: end)
    commit(packet.count - NetHeader.byteCount)
    return true
  }

  /// Where the next packet's header goes, and its frame behind it. Write there, then `commit`.
  var nextPacket: Int { end }

  /// Adds the packet that was written at `nextPacket`.
  /// - Parameter byteCount: the frame's length, for which there is room.
  mutating func commit(_ byteCount: Int) {
    let start = end + NetHeader.byteCount
    places.append(Place(start: start, byteCount: byteCount))
    // The next header where it is aligned.
    end = min(bytes.count, (start + byteCount + 15) & ~15)
  }

  /// The twelve bytes in front of a frame, with `num_buffers`, which means nothing on the way, as 0.
  func headerWords(_ frame: Range<Int>) -> (UInt64, UInt32) {
    let start = frame.lowerBound - NetHeader.byteCount
    return (bytes.littleEndian(UInt64.self, at: start), bytes.littleEndian(UInt32.self, at: start + 8) & 0xFFFF)
  }

  /// Takes packets off the front.
  public mutating func removeFirst(_ count: Int = 1) {
    taken += min(count, self.count)
    if isEmpty { removeAll() }
  }

  /// Takes one packet out; those behind it move up.
  mutating func remove(_ index: Int) {
    if index == 0 { removeFirst() } else { places.remove(at: taken + index) }
  }

  /// Empties the batch and keeps its room.
  public mutating func removeAll() {
    places.removeAll(keepingCapacity: true)
    taken = 0
    end = 0
  }
}
