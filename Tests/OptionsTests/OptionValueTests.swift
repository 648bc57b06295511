import Options
import Testing

private enum Mode: String, CaseIterable, OptionValue {
  case precopy, postcopy
}

@Suite("Option values") struct OptionValueTests {
  @Test(
    "sizes are read in units of 1024, exactly",
    arguments: [
      ("4096", 4096), ("0", 0), ("512M", 512 << 20), ("512MiB", 512 << 20), ("512 MiB", 512 << 20), ("2g", 2 << 30),
      ("1.5G", 3 << 29), ("0.0625k", 64), ("1.50K", 1536), ("1.K", nil), (".5K", nil), ("", nil), ("M", nil),
      ("-1", nil), ("+1", nil), ("1e3", nil), ("1MB", nil), ("1 M B", nil), ("0.1K", nil), ("0.5", nil), ("١K", nil),
      ("16E", nil), ("15.9999E", nil), ("18446744073709551615", UInt64.max), ("18446744073709551616", nil),
      ("0.00000000000000000001E", nil), ("1.0000000000000000000000K", 1024), ("15.5E", 31 << 59),
    ] as [(String, UInt64?)])
  func sizes(text: String, bytes: UInt64?) {
    #expect(ByteCount(optionText: text)?.bytes == bytes)
  }

  @Test(
    "sizes print the shortest exact way",
    arguments: [
      (0, "0 B"), (1023, "1023 B"), (1024, "1 KiB"), (1536, "1.5 KiB"), (4097, "4097 B"), (512 << 20, "512 MiB"),
      (5 << 28, "1.25 GiB"), (1 << 60, "1 EiB"), (.max, "18446744073709551615 B"), (1_075_052_544, "1025.25 MiB"),
      (1_049_601, "1049601 B"),
    ] as [(UInt64, String)])
  func printedSizes(bytes: UInt64, text: String) {
    #expect(ByteCount(bytes: bytes).description == text)
    #expect(ByteCount(optionText: text)?.bytes == bytes)
  }

  @Test("any size is read back as it is printed")
  func sizeRoundTrip() {
    var state: UInt64 = 1
    for _ in 0..<10_000 {
      state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
      let bytes = (state >> (state & 63)) << (state >> 58 & 31)
      #expect(ByteCount(optionText: ByteCount(bytes: bytes).optionText)?.bytes == bytes)
    }
  }

  @Test(
    "times are read with their unit, and printed the shortest exact way",
    arguments: [
      ("250ms", .milliseconds(250), "250ms"), ("1.5s", .milliseconds(1500), "1.5s"), ("90s", .seconds(90), "1.5min"),
      ("0.25us", .nanoseconds(250), "0.25us"), ("2 h", .seconds(7200), "2h"), ("0s", .zero, "0s"),
      ("5", nil, ""), ("5m", nil, ""), ("-5s", nil, ""), ("0.5ns", nil, ""), ("9999999h", nil, ""),
    ] as [(String, Duration?, String)])
  func times(text: String, time: Duration?, printed: String) {
    #expect(Duration(optionText: text) == time)
    if let time, text != "0.25us" { #expect(time.optionText == printed) }
  }

  @Test("times beyond all reason print without a trap")
  func extremeTimes() {
    #expect(Duration.seconds(Int64.max).optionText == Duration.nanoseconds(Int64.max).optionText)
    #expect(Duration.seconds(-1).optionText == "0s")
  }

  @Test("whole numbers are decimal, or hexadecimal after 0x, and stay in their type")
  func numbers() {
    #expect(Int(optionText: "-5") == -5)
    #expect(Int(optionText: "0xff") == 255)
    #expect(UInt64(optionText: "18446744073709551615") == .max)
    #expect(UInt16(optionText: "65536") == nil)
    for text in ["", "+5", "5 ", "0x", "0x-5", "-0x5", "five", "1_000"] { #expect(Int(optionText: text) == nil) }
    #expect(UInt16.expectation == "a whole number from 0 to 65535")
  }

  @Test("an enumeration takes the names of its cases")
  func enumeration() {
    #expect(Mode(optionText: "postcopy") == .postcopy)
    #expect(Mode(optionText: "Postcopy") == nil)
    #expect(Mode.placeholder == "precopy|postcopy")
    #expect(Mode.expectation == "one of precopy, postcopy")
  }
}
