/// Expands a raw deflate stream (RFC 1951), which is what compressed clusters hold.
struct Inflate: ~Copyable {
  /// Expands what gives `byteCount` bytes; what follows in `source` is not looked at.
  /// - Returns: nil when the stream ends before, is none, or gives more.
  static func expand(_ source: [UInt8], byteCount: Int) -> [UInt8]? {
    var inflate = Inflate(source, byteCount: byteCount)
    while inflate.output.count < byteCount {
      guard let isLast = inflate.bits(1), inflate.block() else { return nil }
      if isLast == 1 { break }
    }
    return inflate.output.count == byteCount ? inflate.output : nil
  }

  private let source: [UInt8]
  private let byteCount: Int
  private var output: [UInt8] = []
  private var position = 0
  private var held: UInt32 = 0
  private var heldCount = 0

  private init(_ source: [UInt8], byteCount: Int) {
    self.source = source
    self.byteCount = byteCount
    output.reserveCapacity(byteCount)
  }

  // MARK: - Bits

  /// The next bits, least significant first, at most 16; nil at the end.
  private mutating func bits(_ count: Int) -> Int? {
    while heldCount < count {
      guard position < source.count else { return nil }
      held |= UInt32(source[position]) << UInt32(heldCount)
      position += 1
      heldCount += 8
    }
    defer {
      held >>= UInt32(count)
      heldCount -= count
    }
    return Int(held & (1 << UInt32(count) - 1))
  }

  private mutating func symbol(_ code: borrowing HuffmanCode) -> Int? {
    var value = 0
    var first = 0
    var index = 0
    for count in code.counts.dropFirst() {
      guard let bit = bits(1) else { return nil }
      value |= bit
      if value - first < count { return code.symbols[index + value - first] }
      index += count
      first = (first + count) << 1
      value <<= 1
    }
    return nil
  }

  // MARK: - Blocks (3.2.3)

  /// - Returns: false when it is none.
  private mutating func block() -> Bool {
    switch bits(2) {
    case 0: return stored()
    case 1: return compressed(HuffmanCode.fixedLengths, HuffmanCode.fixedDistances)
    case 2:
      guard let (lengths, distances) = dynamicCodes() else { return false }
      return compressed(lengths, distances)
    default: return false
    }
  }

  private mutating func stored() -> Bool {
    held = 0
    heldCount = 0
    guard position + 4 <= source.count else { return false }
    let length = Int(source[position]) | Int(source[position + 1]) << 8
    let inverse = Int(source[position + 2]) | Int(source[position + 3]) << 8
    position += 4
    guard length == ~inverse & 0xFFFF, length <= source.count - position, length <= byteCount - output.count else {
      return false
    }
    output += source[position..<position + length]
    position += length
    return true
  }

  private static let lengthBases = [
    3, 4, 5, 6, 7, 8, 9, 10, 11, 13, 15, 17, 19, 23, 27, 31, 35, 43, 51, 59, 67, 83, 99, 115, 131, 163, 195, 227, 258,
  ]
  private static let lengthBits = [
    0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3, 4, 4, 4, 4, 5, 5, 5, 5, 0,
  ]
  private static let distanceBases = [
    1, 2, 3, 4, 5, 7, 9, 13, 17, 25, 33, 49, 65, 97, 129, 193, 257, 385, 513, 769, 1025, 1537, 2049, 3073, 4097, 6145,
    8193, 12289, 16385, 24577,
  ]

  private mutating func compressed(_ lengths: HuffmanCode, _ distances: HuffmanCode) -> Bool {
    while let symbol = symbol(lengths) {
      if symbol == 256 { return true }
      if symbol < 256 {
        guard output.count < byteCount else { return false }
        output.append(UInt8(symbol))
      } else {
        guard copy(symbol - 257, distances) else { return false }
      }
    }
    return false
  }

  /// Repeats what came before (3.2.5).
  private mutating func copy(_ symbol: Int, _ distances: HuffmanCode) -> Bool {
    guard Self.lengthBases.indices.contains(symbol), let more = bits(Self.lengthBits[symbol]),
      let code = self.symbol(distances), Self.distanceBases.indices.contains(code),
      let further = bits(max(0, code / 2 - 1))
    else { return false }
    let length = Self.lengthBases[symbol] + more
    let distance = Self.distanceBases[code] + further
    guard distance <= output.count, length <= byteCount - output.count else { return false }
    for _ in 0..<length { output.append(output[output.count - distance]) }
    return true
  }

  /// The codes that a block brings with it (3.2.7).
  private mutating func dynamicCodes() -> (lengths: HuffmanCode, distances: HuffmanCode)? {
    let order = [16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15]
    guard let literals = bits(5), let distances = bits(5), let codes = bits(4) else { return nil }
    guard literals + 257 <= 286 else { return nil }
    var lengths = [Int](repeating: 0, count: 19)
    for place in order.prefix(codes + 4) {
      guard let length = bits(3) else { return nil }
      lengths[place] = length
    }
    let count = literals + 257 + distances + 1
    guard let code = HuffmanCode(lengths), let all = codeLengths(count, code),
      let first = HuffmanCode(Array(all.prefix(literals + 257))),
      let second = HuffmanCode(Array(all.dropFirst(literals + 257)))
    else { return nil }
    return (first, second)
  }

  private mutating func codeLengths(_ count: Int, _ code: HuffmanCode) -> [Int]? {
    var lengths: [Int] = []
    while lengths.count < count {
      guard let symbol = symbol(code) else { return nil }
      guard symbol >= 16 else {
        lengths.append(symbol)
        continue
      }
      let (base, width) = symbol == 16 ? (3, 2) : symbol == 17 ? (3, 3) : (11, 7)
      guard let more = bits(width), base + more <= count - lengths.count, symbol != 16 || !lengths.isEmpty else {
        return nil
      }
      lengths += repeatElement(symbol == 16 ? lengths[lengths.count - 1] : 0, count: base + more)
    }
    return lengths
  }
}

/// A prefix code, told by the length of each symbol's (3.2.2).
struct HuffmanCode: Sendable {
  /// How many codes there are of each length, from 0 on.
  let counts: [Int]
  /// The symbols that have a code, in its order.
  let symbols: [Int]

  /// - Returns: nil when there are more codes than lengths allow.
  init?(_ lengths: [Int]) {
    var counts = [Int](repeating: 0, count: 16)
    for length in lengths where length > 0 { counts[length] += 1 }
    var left = 1
    for count in counts.dropFirst() {
      left = left << 1 - count
      guard left >= 0 else { return nil }
    }
    self.counts = counts
    symbols = lengths.indices.filter { lengths[$0] > 0 }.sorted { (lengths[$0], $0) < (lengths[$1], $1) }
  }

  private init(counts: [Int], symbols: [Int]) {
    self.counts = counts
    self.symbols = symbols
  }

  /// The codes of blocks that bring none (3.2.6).
  static let fixedLengths = HuffmanCode(
    counts: [0, 0, 0, 0, 0, 0, 0, 24, 152, 112, 0, 0, 0, 0, 0, 0],
    symbols: Array(256..<280) + Array(0..<144) + Array(280..<288) + Array(144..<256))
  static let fixedDistances = HuffmanCode(
    counts: [0, 0, 0, 0, 0, 30, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0], symbols: Array(0..<30))
}
