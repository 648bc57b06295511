/// A size of memory or of a file.
///
/// People write `512M`, `1.5G`, `512MiB` or `4096`; units are powers of 1024.
public struct ByteCount: Hashable, Comparable, Sendable {
  /// The size in bytes.
  public let bytes: UInt64

  public init(bytes: UInt64) {
    self.bytes = bytes
  }

  /// A size in units of 1024 times 1024 bytes; the largest one there is when that is more than fits.
  public static func mebibytes(_ count: UInt64) -> ByteCount {
    let (bytes, overflow) = count.multipliedReportingOverflow(by: 1 << 20)
    return ByteCount(bytes: overflow ? .max : bytes)
  }

  public static func < (left: ByteCount, right: ByteCount) -> Bool { left.bytes < right.bytes }

  private static let scale = UnitScale(
    units: [UnitScale.Unit(symbol: "B", aliases: ["", "byte", "bytes"], size: 1)]
      + ["K", "M", "G", "T", "P", "E"].enumerated().map { (index, letter) in
        UnitScale.Unit(symbol: letter + "iB", aliases: [letter.lowercased()], size: 1 << (10 * (UInt64(index) + 1)))
      },
    separator: " ")
}

extension ByteCount: CustomStringConvertible {
  /// The shortest exact way to write it, such as `512 MiB`, `1.5 GiB` or `4097 B`.
  public var description: String { Self.scale.format(bytes) }
}

extension ByteCount: OptionValue {
  public init?(optionText: String) {
    guard let bytes = Self.scale.parse(optionText) else { return nil }
    self.init(bytes: bytes)
  }

  public var optionText: String { description }
  public static var placeholder: String { "SIZE" }
  public static var expectation: String { "a size in whole bytes, such as 512M, 1.5G or 4096" }
}
