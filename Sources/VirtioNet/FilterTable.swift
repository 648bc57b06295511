/// One of the two tables of `VIRTIO_NET_CTRL_MAC_TABLE_SET` (5.1.6.5.2).
struct FilterTable {
  /// The most entries that a command may announce: more than any driver has, and read in no time.
  static let mostAnnounced: UInt32 = 65536

  private(set) var addresses: [EthernetAddress] = []
  /// There were more than are kept.
  private(set) var isTooLong = false

  /// Adds addresses, six bytes each.
  mutating func add(_ bytes: [UInt8], _ part: Range<Int>) {
    for place in stride(from: part.lowerBound, to: part.upperBound, by: 6) {
      guard addresses.count < ReceiveFilter.mostAddresses else {
        isTooLong = true
        return
      }
      addresses.append(EthernetAddress(bytes, at: place))
    }
  }
}

extension ReceiveFilter {
  mutating func setTables(unicast: FilterTable, multicast: FilterTable) {
    self.unicast = unicast.isTooLong ? [] : unicast.addresses
    self.multicast = multicast.isTooLong ? [] : multicast.addresses
    hasTooManyUnicast = unicast.isTooLong
    hasTooManyMulticast = multicast.isTooLong
  }
}
