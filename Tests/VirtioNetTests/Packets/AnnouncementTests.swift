import Testing

@testable import VirtioNet

@Suite struct AnnouncementTests {
  static let mac = EthernetAddress(macBytes, at: 0)
  static let macBytes: [UInt8] = [0x52, 0x54, 0x00, 0x12, 0x34, 0x56]

  @Test("RFC 903: a broadcast that asks for the card's own address")
  func reverseRequest() {
    let head = [UInt8](repeating: 0xFF, count: 6) + Self.macBytes + [0x80, 0x35, 0, 1, 8, 0, 6, 4, 0, 3]
    let addresses = Self.macBytes + [0, 0, 0, 0] + Self.macBytes + [0, 0, 0, 0]
    #expect(
      Announcement.reverseRequest(mac: Self.mac) == head + addresses + [UInt8](repeating: 0, count: 18))
  }

  @Test("RFC 5227: a broadcast whose sender and target have the same IPv4 address")
  func gratuitousRequest() {
    let head = [UInt8](repeating: 0xFF, count: 6) + Self.macBytes + [0x08, 0x06, 0, 1, 8, 0, 6, 4, 0, 1]
    let addresses = Self.macBytes + [10, 1, 2, 3] + [0, 0, 0, 0, 0, 0] + [10, 1, 2, 3]
    #expect(
      Announcement.gratuitousRequest(mac: Self.mac, address: 0x0A01_0203)
        == head + addresses + [UInt8](repeating: 0, count: 18))
  }

  @Test("RFC 4861, 4.4: an advertisement to all nodes that overrides, with its checksum")
  func neighbourAdvertisement() throws {
    let address: [UInt8] = [0xFD, 0] + [UInt8](repeating: 0, count: 13) + [5]
    let allNodes: [UInt8] = [0xFF, 2] + [UInt8](repeating: 0, count: 13) + [1]
    let frame = try #require(Announcement.neighbourAdvertisement(mac: Self.mac, address: address))
    #expect(Announcement.neighbourAdvertisement(mac: Self.mac, address: [10, 0, 0, 1]) == nil)
    let head = [0x33, 0x33, 0, 0, 0, 1] + Self.macBytes + [0x86, 0xDD, 0x60, 0, 0, 0, 0, 32, 58, 255]
    #expect(Array(frame[..<54]) == head + address + allNodes)
    #expect(Array(frame[54..<56]) == [136, 0])
    #expect(Array(frame[58...]) == [0x20, 0, 0, 0] + address + [2, 1] + Self.macBytes)
    #expect(Reference.sum(address + allNodes + [0, 0, 0, 32, 0, 0, 0, 58] + Array(frame[54...])) == 0xFFFF)
  }
}
