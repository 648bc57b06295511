import GuestRAM

/// The driver's own reading of 5.1: feature bits, configuration, headers.
enum NetFeatureBit {
  static let address: UInt64 = 1 << 5
  static let status: UInt64 = 1 << 16
}

/// `struct virtio_net_config` (5.1.4): u8 mac[6], le16 status.
enum NetConfigOffset {
  static let address = 0
  static let status = 6
  static let byteCount = 8
  static let linkUp: UInt8 = 1
}

/// `struct virtio_net_hdr` (5.1.6), with `num_buffers` since VERSION_1 is negotiated.
enum NetWireHeader {
  static let byteCount = 12
  static let bufferCountOffset = 10
}

/// Where the driver's parts lie behind its page: two buffers a page, those of the receive queue first.
struct NetArea {
  static let bufferByteCount = 2048
  static let fault: UInt64 = 2048

  let base: GuestAddress
  let slotCount: UInt64

  func receiveBuffer(_ slot: UInt64) -> GuestAddress {
    base + (UInt64(GuestPage.byteCount) &+ UInt64(Self.bufferByteCount) &* slot)
  }

  func transmitBuffer(_ slot: UInt64) -> GuestAddress { receiveBuffer(slotCount &+ slot) }

  var byteCount: UInt64 { UInt64(GuestPage.byteCount) &+ 2 &* UInt64(Self.bufferByteCount) &* slotCount }
}

/// What the network driver keeps, in its page.
enum NetCell: RawRepresentable {
  case features, slotCount, address, peer, isBroken, isResting
  /// The number of the next packet to be sent, and how many the device has taken.
  case nextNumber, taken
  /// The number of the next packet to be received if none is lost.
  case expected
  case received, lost, foreign, isLinkUp, configurationChanges
  case queueAddress(NetDriver.Queue), queueSize(NetDriver.Queue)
  /// What a transmit slot carries: a packet's number and 1, or 0 for nothing.
  case slot(UInt64)

  var rawValue: UInt64 {
    switch self {
    case .features: 0
    case .slotCount: 1
    case .address: 2
    case .peer: 3
    case .isBroken: 4
    case .isResting: 5
    case .nextNumber: 6
    case .taken: 7
    case .expected: 8
    case .received: 9
    case .lost: 10
    case .foreign: 11
    case .isLinkUp: 12
    case .configurationChanges: 13
    case .queueAddress(let queue): 16 &+ 2 &* UInt64(queue.rawValue)
    case .queueSize(let queue): 17 &+ 2 &* UInt64(queue.rawValue)
    case .slot(let slot): 64 &+ slot
    }
  }

  /// Cells are only ever named; none is looked up by its number.
  init?(rawValue: UInt64) { nil }
}

/// A packet that can be told from every other: an Ethernet frame of a type for experiments (IEEE 802, 0x88B5) with a
/// number, and a length and bytes that follow from it.
public struct NumberedPacket: Equatable, Sendable {
  /// What a frame is that came over a wire.
  public enum Reading: Equatable, Sendable {
    /// A numbered packet, every byte of which is right.
    case packet(NumberedPacket)
    /// A numbered packet whose length or bytes are not those of its number.
    case damaged(number: UInt64)
    /// Something else.
    case foreign
  }

  private static let type: [UInt8] = [0x88, 0xB5]
  private static let headByteCount = 14

  /// Six bytes each.
  public var destination: [UInt8]
  public var source: [UInt8]
  public var number: UInt64

  public init(number: UInt64, from source: [UInt8], to destination: [UInt8]) {
    self.number = number
    self.source = source
    self.destination = destination
  }

  /// The frame, of 64 to 1500 bytes.
  public var bytes: [UInt8] {
    let key = GuestRandom.mix(number)
    let count = 42 + Int(key % 1437)
    var payload = [UInt8](repeating: 0, count: count)
    var span = payload.mutableSpan
    for index in 0..<count {
      span[index] = UInt8(truncatingIfNeeded: key >> UInt64(8 * (index & 7)) &+ UInt64(index >> 3))
    }
    return destination + source + Self.type + (0..<8).map { UInt8(truncatingIfNeeded: number >> UInt64(8 * $0)) }
      + payload
  }

  /// Looks at a frame.
  public static func read(_ frame: [UInt8]) -> Reading {
    guard frame.count >= headByteCount + 8, Array(frame[12..<14]) == type else { return .foreign }
    let number = (0..<8).reduce(0 as UInt64) { $0 | UInt64(frame[headByteCount + $1]) << UInt64(8 * $1) }
    let packet = NumberedPacket(number: number, from: Array(frame[6..<12]), to: Array(frame[0..<6]))
    return packet.bytes == frame ? .packet(packet) : .damaged(number: number)
  }
}
