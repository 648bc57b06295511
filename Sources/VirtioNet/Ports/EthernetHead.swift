/// What a switch reads of a frame.
struct EthernetHead {
  /// The type that marks a VLAN tag (802.1Q).
  static let tagType: UInt16 = 0x8100

  /// The six bytes as one number, as in `EthernetAddress`.
  let destination: UInt64
  let source: UInt64
  /// The control information of the frame's outer tag: three bits of priority, one of drop eligibility, twelve of VLAN.
  let tag: UInt16?

  /// Reads a frame's head; nil when the frame is too short for what it says it has.
  init?(_ bytes: [UInt8], _ frame: Range<Int>) {
    guard frame.count >= PacketBatch.smallestFrameByteCount else { return nil }
    let start = frame.lowerBound
    destination = UInt64(bytes.bigEndian16(at: start)) << 32 | UInt64(bytes.bigEndian32(at: start + 2))
    source = UInt64(bytes.bigEndian16(at: start + 6)) << 32 | UInt64(bytes.bigEndian32(at: start + 8))
    guard bytes.bigEndian16(at: start + 12) == Self.tagType else {
      tag = nil
      return
    }
    guard frame.count >= PacketBatch.smallestFrameByteCount + 4 else { return nil }
    tag = bytes.bigEndian16(at: start + 14)
  }

  /// Whether an address names a group.
  static func isGroup(_ address: UInt64) -> Bool { address >> 40 & 1 != 0 }

  /// Whether the frame is for the bridge itself, such as a pause: no bridge passes it on (802.1Q, 8.6.3).
  var isForBridge: Bool { destination & ~0xF == 0x0180_C200_0000 }
}

/// Which frames a port of a switch carries, and how they look there.
public enum PortVLANs: Equatable, Sendable {
  /// All, with the tags that they have. Those without belong together too, and never come to an access port.
  case trunk
  /// Those of one VLAN, 1 to 4094, without its tag.
  case access(UInt16)

  /// The VLAN of a frame that came from this port: 0 for none; nil when it may not come from here.
  func vlan(ofTag tag: UInt16?) -> UInt16? {
    let number = (tag ?? 0) & 0xFFF
    switch self {
    case .trunk: return number == 0xFFF ? nil : number
    // A tag without a number has only a priority.
    case .access(let own): return number == 0 || number == own ? own : nil
    }
  }

  /// Whether frames of a VLAN go to this port.
  func carries(_ vlan: UInt16) -> Bool {
    switch self {
    case .trunk: true
    case .access(let own): own == vlan
    }
  }

  /// What becomes of the tag of a frame that came from this port and goes to another that carries its VLAN.
  func change(ofTag tag: UInt16?, of vlan: UInt16, to other: PortVLANs) -> PacketRing.TagChange {
    switch (self, other) {
    case (.trunk, .trunk): .none
    case (_, .access): tag == nil ? .none : .removal
    case (.access, .trunk): tag.map { .replacement($0 & 0xF000 | vlan) } ?? .insertion(vlan)
    }
  }
}
