/// The frames by which a card that has moved tells the network where it is now (5.1.6.5.4).
///
/// Switches learn its place from any of them. A driver that negotiated `VIRTIO_NET_F_GUEST_ANNOUNCE` sends its own.
public enum Announcement {
  /// `ff02::1`
  private static let allNodes: [UInt8] = [0xFF, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]
  /// The shortest frame on a wire, without its check sequence.
  private static let shortestByteCount = 60

  /// A RARP request for the card's own address (RFC 903), which needs no IP address.
  /// - Parameter mac: the card's address.
  public static func reverseRequest(mac: EthernetAddress) -> [UInt8] {
    addressResolution(EtherType.rarp, operation: 3, mac: mac, address: 0, targetMAC: mac)
  }

  /// A gratuitous ARP request (RFC 5227, 3): everyone who has the address in a table puts the card's there.
  public static func gratuitousRequest(mac: EthernetAddress, address: UInt32) -> [UInt8] {
    addressResolution(EtherType.arp, operation: 1, mac: mac, address: address, targetMAC: nil)
  }

  /// An unsolicited neighbour advertisement to all nodes (RFC 4861, 4.4 and 7.2.6), which overrides what they know.
  /// - Returns: nil when the address has not 16 bytes.
  public static func neighbourAdvertisement(mac: EthernetAddress, address: [UInt8]) -> [UInt8]? {
    guard address.count == 16 else { return nil }
    let payloadByteCount: UInt16 = 32
    var frame: [UInt8] = []
    frame.reserveCapacity(86)
    frame.append(0x3333_0000_0001, byteCount: 6)
    frame += mac.bytes
    frame.append(UInt64(EtherType.ip6), byteCount: 2)
    frame.append(0x6000_0000, byteCount: 4)
    frame.append(UInt64(payloadByteCount), byteCount: 2)
    frame += [InternetProtocol.icmp6, 255]
    frame += address
    frame += allNodes
    frame += [136, 0, 0, 0]
    // The flag O: override.
    frame.append(0x2000_0000, byteCount: 4)
    frame += address
    // The option target link-layer address, of one unit of eight bytes.
    frame += [2, 1]
    frame += mac.bytes
    var checksum = InternetChecksum()
    checksum.add(frame, 22..<frame.count)
    checksum.add(payloadByteCount)
    checksum.add(UInt16(InternetProtocol.icmp6))
    frame.setBigEndian16(checksum.value, at: 56)
    return frame
  }

  /// A broadcast of ARP or RARP over Ethernet and IPv4 (RFC 826), whose sender and target have the same address.
  private static func addressResolution(
    _ etherType: UInt16, operation: UInt16, mac: EthernetAddress, address: UInt32, targetMAC: EthernetAddress?
  ) -> [UInt8] {
    var frame: [UInt8] = []
    frame.reserveCapacity(shortestByteCount)
    frame += EthernetAddress.broadcast.bytes
    frame += mac.bytes
    frame.append(UInt64(etherType), byteCount: 2)
    frame += [0, 1, 8, 0, 6, 4]
    frame.append(UInt64(operation), byteCount: 2)
    frame += mac.bytes
    frame.append(UInt64(address), byteCount: 4)
    frame += targetMAC?.bytes ?? [0, 0, 0, 0, 0, 0]
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
}
