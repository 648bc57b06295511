import VirtioCore

/// `struct virtio_balloon_config`: four little-endian words, of which the last two exist by feature (5.5.4).
struct BalloonConfig: Equatable {
  /// `num_pages`, at 0: how many pages the operator wants in the balloon.
  var targetPages: UInt32 = 0
  /// `actual`, at 4: how many pages the driver says are in the balloon.
  var actualPages: UInt32 = 0
  /// `free_page_hint_cmd_id`, at 8.
  var hintCommand: UInt32 = 0
  /// `poison_val`, at 12: what the driver fills free pages with.
  var poisonValue: UInt32 = 0

  /// The space as far as the offered features reach: 8, 12 or 16 bytes.
  func bytes(offered: Features) -> [UInt8] {
    let count = offered.contains(.pagePoison) ? 16 : offered.contains(.freePageHint) ? 12 : 8
    return Array(words.prefix(count))
  }

  /// Takes what a driver writes: `actual` and `poison_val` are its own, all else stays. A field may come in parts.
  mutating func write(_ bytes: ArraySlice<UInt8>, at offset: Int) {
    var words = words
    for (place, byte) in zip(offset..., bytes) where (4..<8).contains(place) || (12..<16).contains(place) {
      words[place] = byte
    }
    actualPages = Self.word(words[4..<8])
    poisonValue = Self.word(words[12..<16])
  }

  private var words: [UInt8] {
    [targetPages, actualPages, hintCommand, poisonValue].flatMap { word in
      (0..<4).map { UInt8(truncatingIfNeeded: word >> (8 * UInt32($0))) }
    }
  }

  private static func word(_ bytes: ArraySlice<UInt8>) -> UInt32 {
    bytes.reversed().reduce(0) { $0 << 8 | UInt32($1) }
  }
}
