/// The frames by which a card that has moved tells the network where it is now (5.1.6.5.4).
///
/// Switches learn its place from any of them. A driver that negotiated `VIRTIO_NET_F_GUEST_ANNOUNCE` sends its own.
public enum Announcement {
  /// The shortest frame on a wire, without its check sequence.
  private static let shortestByteCount = 60
  private static let broadcast: UInt64 = 0xFFFF_FFFF_FFFF

  /// A RARP request for the card's own address (RFC 903), which needs no IP address.
  /// - Parameter mac: the card's address, in the low 48 bits.
  public static func reverseRequest(mac: UInt64) -> [UInt8] {
    addressResolution(EtherType.rarp, operation: 3, mac: mac, address: 0, targetMAC: mac)
  }

  /// A gratuitous ARP request (RFC 5227, 3): everyone who has the address in a table puts the card's there.
  public static func gratuitousRequest(mac: UInt64, address: UInt32) -> [UInt8] {
    addressResolution(EtherType.arp, operation: 1, mac: mac, address: address, targetMAC: 0)
  }

  /// An unsolicited neighbour advertisement to all nodes (RFC 4861, 4.4 and 7.2.6), which overrides what they know.
  public static func neighbourAdvertisement(mac: UInt64, address: UInt128) -> [UInt8] {
    let payloadByteCount: UInt16 = 32
    var frame: [UInt8] = []
    frame.reserveCapacity(86)
    frame.append(0x3333_0000_0001, byteCount: 6)
    frame.append(mac, byteCount: 6)
    frame.append(UInt64(EtherType.ip6), byteCount: 2)
    frame.append(0x6000_0000, byteCount: 4)
    frame.append(UInt64(payloadByteCount), byteCount: 2)
    frame += [InternetProtocol.icmp6, 255]
    frame.append(address)
    frame.append(UInt128(0xFF02) << 112 | 1)
    frame += [136, 0, 0, 0]
    // The flag O: override.
    frame.append(0x2000_0000, byteCount: 4)
    frame.append(address)
    // The option target link-layer address, of one unit of eight bytes.
    frame += [2, 1]
    frame.append(mac, byteCount: 6)
    var checksum = InternetChecksum()
    checksum.add(frame, 22..<frame.count)
    checksum.add(payloadByteCount)
    checksum.add(UInt16(InternetProtocol.icmp6))
    frame.setBigEndian16(checksum.value, at: 56)
    return frame
  }

  /// A broadcast of ARP or RARP over Ethernet and IPv4 (RFC 826), whose sender and target have the same address.
  private static func addressResolution(
    _ etherType: UInt16, operation: UInt16, mac: UInt64, address: UInt32, targetMAC: UInt64
  ) -> [UInt8] {
    var frame: [UInt8] = []
    frame.reserveCapacity(shortestByteCount)
    frame.append(broadcast, byteCount: 6)
    frame.append(mac, byteCount: 6)
    frame.append(UInt64(etherType), byteCount: 2)
    frame += [0, 1, 8, 0, 6, 4]
    frame.append(UInt64(operation), byteCount: 2)
    frame.append(mac, byteCount: 6)
    frame.append(UInt64(address), byteCount: 4)
    frame.append(targetMAC, byteCount: 6)
    frame.append(UInt64(address), byteCount: 4)
    frame += repeatElement(0, count: shortestByteCount - frame.count)
    return frame
  }
}

extension [UInt8] {
  /// Adds the low bytes of a number, high byte first.
  fileprivate mutating func append(_ number: UInt64, byteCount: Int) {
    for place in (0..<byteCount).reversed() { append(UInt8(truncatingIfNeeded: number >> (8 * UInt64(place)))) }
  }

  fileprivate mutating func append(_ address: UInt128) {
    append(UInt64(truncatingIfNeeded: address >> 64), byteCount: 8)
    append(UInt64(truncatingIfNeeded: address), byteCount: 8)
  }
}
