import Testing

@testable import balloon_demo

@Suite("GuestConsole") struct GuestConsoleTests {
  private static let figures = GuestFigures(
    totalByteCount: 1000 << 10, freeByteCount: 900 << 10, inflatedPageCount: 7, deflatedPageCount: 3)

  @Test(
    "the guest's lines are understood",
    arguments: [
      ("demo: kernel 6.1.176", GuestLine.kernel("6.1.176")),
      ("demo: ready", .ready),
      ("demo: memory 1000 900 7 3", .memory(figures)),
      ("demo: verdict good good", .verdict(keptIsGood: true, reusedIsGood: true)),
      ("demo: verdict good bad", .verdict(keptIsGood: true, reusedIsGood: false)),
      ("demo: verdict bad good", .verdict(keptIsGood: false, reusedIsGood: true)),
      ("demo: failed no such luck", .failed("no such luck")),
    ])
  func lines(text: String, expected: GuestLine) {
    #expect(GuestLine(text) == expected)
  }

  @Test(
    "any other line is no line for the demo",
    arguments: [
      "", "ready", " demo: ready", "demo: ", "demo: ready now", "demo: memory 1 2 3", "demo: memory 1 2 3 4 5",
      "demo: memory 1 2 3 x", "demo: memory -1 2 3 4", "demo: memory 99999999999999999999 2 3 4",
      "demo: memory 18446744073709551615 2 3 4", "demo: verdict good", "demo: kernel", "demo: other",
    ])
  func otherLines(text: String) {
    #expect(GuestLine(text) == nil)
  }

  @Test("a line may come in pieces of any size, and end as on a terminal", arguments: 1...30)
  func pieces(size: Int) {
    let bytes = Array("Linux boots\r\ndemo: ready\r\n\r\ndemo: kernel 6.1\r\nReboot\r\ndemo: rea".utf8)
    var console = GuestConsole()
    var lines: [GuestLine] = []
    for start in stride(from: 0, to: bytes.count, by: size) {
      lines += console.take(Array(bytes[start..<min(start + size, bytes.count)]))
    }
    #expect(lines == [.ready, .kernel("6.1")])
    #expect(console.lastWords == ["Linux boots", "Reboot"])
  }

  @Test("only the last lines are remembered, each up to a bound, without what would upset a terminal")
  func lastWords() {
    var console = GuestConsole()
    for number in 0..<100 { #expect(console.take(Array("line \(number)\n".utf8)).isEmpty) }
    #expect(console.lastWords == (92..<100).map { "line \($0)" })
    #expect(console.take([UInt8](repeating: 0x61, count: 100_000) + [0x1B, 0x0A]).isEmpty)
    #expect(console.lastWords.last == String(repeating: "a", count: GuestConsole.mostLineBytes))
  }

  @Test("more pages taken out than put in leave an empty balloon")
  func balloonPages() {
    #expect(Self.figures.balloonPageCount == 4)
    #expect(GuestFigures(["1", "1", "3", "5"])?.balloonPageCount == 0)
  }
}
