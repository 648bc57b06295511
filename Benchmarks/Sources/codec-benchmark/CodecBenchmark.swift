import LinuxIO
import Migration

/// Codes pages of several kinds and tells megabytes of pages a second, and how long a page becomes; beside the speed at
/// which the same pages are copied. The pages of files named as arguments come last.
@main
struct CodecBenchmark {
  static let repetitions = 20

  static func main() throws {
    print(
      "pages     copy    compress  length  expand     delta  length   apply    chosen  length   (MB/s, bytes a page)")
    for pages in try Pages.all() + CommandLine.arguments.dropFirst().map(Pages.file) {
      var coder = Coder()
      for _ in 0..<repetitions { try coder.run(pages) }
      print(pad(pages.name, 8, isNumber: false) + text(coder))
    }
  }

  private static func text(_ coder: borrowing Coder) -> String {
    [
      speed(coder.copy, 6), speed(coder.compress, 12), length(coder.compress), speed(coder.expand, 8),
      speed(coder.delta, 10), length(coder.delta), speed(coder.apply, 8), speed(coder.chosen, 10),
      length(coder.chosen),
    ].joined()
  }

  private static func speed(_ result: Result, _ width: Int) -> String {
    let byteCount = UInt64(Pages.count * Pages.byteCount)
    return pad(result.nanoseconds == .max ? "-" : "\(byteCount * 1000 / max(result.nanoseconds, 1))", width)
  }

  private static func length(_ result: Result) -> String {
    pad("\(result.byteCount / Pages.count)", 8)
  }

  private static func pad(_ text: String, _ width: Int, isNumber: Bool = true) -> String {
    let space = String(repeating: " ", count: max(0, width - text.count))
    return isNumber ? space + text : text + space
  }
}

/// The best time that something took for all pages, and the bytes that they became.
struct Result {
  var nanoseconds = UInt64.max
  var byteCount = 0

  mutating func time(_ work: () throws -> Void) rethrows {
    let start = MonotonicClock.now
    try work()
    nanoseconds = min(nanoseconds, MonotonicClock.now - start)
  }
}
