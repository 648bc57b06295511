/// What the list of capabilities in a PCI configuration space tells of what else a section has.
struct PCICapabilities {
  /// Where the PCI Express capability is.
  private(set) var express: Int?
  /// How many vectors MSI-X has; nil without it.
  private(set) var vectorCount: Int?
  /// Whether the driver has turned MSI-X on.
  private(set) var isMSIXEnabled = false
  /// Whether the driver has masked all vectors at once.
  private(set) var isMSIXMasked = false

  /// - Parameter start: where in `bytes` the 256 bytes of the space begin, which must be there.
  init(_ bytes: [UInt8], at start: Int) {
    let space = bytes[start..<start + 256]
    // A device without the bit in its status register has no list.
    guard space[start + 6] & 0x10 != 0 else { return }
    var next = Int(space[start + 0x34] & 0xFC)
    // There is room for 48, so a list that is longer runs in a circle.
    for _ in 0..<48 where (0x40..<0xFC).contains(next) {
      switch space[start + next] {
      case 0x10: express = express ?? next
      case 0x11:
        let control = Int(space[start + next + 2]) | Int(space[start + next + 3]) << 8
        guard vectorCount == nil else { break }
        vectorCount = (control & 0x7FF) + 1
        isMSIXEnabled = control & 0x8000 != 0
        isMSIXMasked = control & 0x4000 != 0
      default: break
      }
      next = Int(space[start + next + 1] & 0xFC)
    }
  }
}
