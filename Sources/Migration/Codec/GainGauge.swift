/// Judges whether a codec pays: whether it saves bytes faster than the link would carry them.
///
/// A codec that takes `t` seconds to make a page `s` bytes shorter is worth its time on a link of `b` bytes a second when
/// `s / b > t`. A fixed sixteenth of all pages goes through the codec always, and it is judged by these alone: so it is
/// tried again while it is off, and by pages of the same kind as while it is on.
struct GainGauge {
  /// A verdict is made of so many pages.
  static let samplePageCount = 64
  private static let sampledShare: UInt64 = 16

  /// The last verdict; every codec pays until it has been measured.
  private(set) var pays = true

  private var pageCount = 0
  private var savedByteCount: UInt64 = 0
  private var nanoseconds: UInt64 = 0

  /// Whether this page is of those by which codecs are judged.
  static func isSample(_ page: UInt64) -> Bool {
    // By a hash, as every sixteenth page of a guest may well be of another kind than the others.
    (page &* 0x9E37_79B9_7F4A_7C15) >> 32 % sampledShare == 0
  }

  /// Whether the codec is to be used for this page.
  func wants(_ page: UInt64) -> Bool {
    pays || Self.isSample(page)
  }

  /// Notes what the codec made of a page.
  /// - Parameter linkSpeed: bytes a second; 0 when nothing is known of the link, on which everything pays that saves.
  mutating func note(_ page: UInt64, savedByteCount: Int, nanoseconds: UInt64, linkSpeed: UInt64) {
    guard Self.isSample(page) else { return }
    pageCount += 1
    self.savedByteCount += UInt64(savedByteCount)
    self.nanoseconds &+= nanoseconds
    guard pageCount == Self.samplePageCount else { return }
    let carried = Double(linkSpeed) * Double(self.nanoseconds) / 1e9
    pays = self.savedByteCount > 0 && Double(self.savedByteCount) >= carried
    (pageCount, self.savedByteCount, self.nanoseconds) = (0, 0, 0)
  }
}
