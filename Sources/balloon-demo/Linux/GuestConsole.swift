/// What the guest's script says to the demo.
enum GuestLine: Equatable {
  /// The kernel's release, such as `6.1.176`.
  case kernel(String)
  /// All memory has been touched and freed, and the balloon may be inflated.
  case ready
  case memory(GuestFigures)
  /// What the guest found after the balloon was deflated.
  case verdict(keptIsGood: Bool, reusedIsGood: Bool)
  /// Why the guest gives up.
  case failed(String)

  /// Nil for a line of the console that is not meant for the demo.
  init?(_ line: String) {
    guard line.hasPrefix(GuestInitrd.marker) else { return nil }
    let words = line.dropFirst(GuestInitrd.marker.count).split(separator: " ")
    switch (words.first, words.dropFirst()) {
    case ("kernel", let rest) where rest.count == 1: self = .kernel(rest.joined())
    case ("ready", []): self = .ready
    case ("memory", let rest):
      guard let figures = GuestFigures(rest.map(String.init)) else { return nil }
      self = .memory(figures)
    case ("verdict", let rest) where rest.count == 2:
      self = .verdict(keptIsGood: rest.first == "good", reusedIsGood: rest.last == "good")
    case ("failed", let rest): self = .failed(rest.joined(separator: " "))
    default: return nil
    }
  }
}

/// The guest's own account of its memory.
struct GuestFigures: Equatable, Codable {
  /// `MemTotal` of `/proc/meminfo`, in bytes: without what the kernel has set aside and without the balloon.
  var totalByteCount: UInt64
  /// `MemFree`, in bytes.
  var freeByteCount: UInt64
  /// The pages, 4096 bytes each, that its driver has put into the balloon and taken out of it since the start.
  var inflatedPageCount: UInt64
  var deflatedPageCount: UInt64

  var balloonPageCount: UInt64 { inflatedPageCount - min(inflatedPageCount, deflatedPageCount) }
}

extension GuestFigures {
  /// Reads two sizes in KiB and two counts of pages.
  init?(_ words: [String]) {
    let numbers = words.compactMap { UInt64($0) }
    guard words.count == 4, numbers.count == 4, numbers.allSatisfy({ $0 < 1 << 50 }) else { return nil }
    self.init(
      totalByteCount: numbers[0] * 1024, freeByteCount: numbers[1] * 1024, inflatedPageCount: numbers[2],
      deflatedPageCount: numbers[3])
  }
}

/// Cuts the console's bytes into lines, and remembers the last ones.
struct GuestConsole {
  /// A longer line is cut there.
  static let mostLineBytes = 1024
  static let rememberedLines = 8

  /// The last lines that were not for the demo, for an error to show.
  private(set) var lastWords: [String] = []
  private var unfinished: [UInt8] = []

  /// Takes the next bytes.
  /// - Returns: the lines for the demo that they end.
  mutating func take(_ bytes: [UInt8]) -> [GuestLine] {
    var lines: [GuestLine] = []
    for byte in bytes {
      switch byte {
      case UInt8(ascii: "\n"):
        if let line = endLine() { lines.append(line) }
      case UInt8(ascii: " ")...UInt8(ascii: "~") where unfinished.count < Self.mostLineBytes: unfinished.append(byte)
      default: break
      }
    }
    return lines
  }

  private mutating func endLine() -> GuestLine? {
    let text = String(decoding: unfinished, as: UTF8.self)
    unfinished.removeAll(keepingCapacity: true)
    if let line = GuestLine(text) { return line }
    guard text.contains(where: { $0 != " " }) else { return nil }
    lastWords = lastWords.suffix(Self.rememberedLines - 1) + [text]
    return nil
  }
}
