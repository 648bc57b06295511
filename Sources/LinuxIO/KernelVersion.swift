import Glibc

/// The version of a kernel: what it knows that it cannot be asked about.
public struct KernelVersion: Comparable, Sendable {
  public let major: Int
  public let minor: Int

  public init(_ major: Int, _ minor: Int) {
    self.major = major
    self.minor = minor
  }

  /// Reads a release such as `6.1.0-13-amd64`; nil for anything else.
  public init?(release: String) {
    let numbers = release.split(separator: ".", maxSplits: 2).map { Int($0.prefix { "0"..."9" ~= $0 }) }
    guard numbers.count >= 2, let major = numbers[0], let minor = numbers[1] else { return nil }
    self.init(major, minor)
  }

  /// That of the running kernel; 0.0 when it has none that can be read.
  public static let current: KernelVersion = {
    var names = utsname()
    guard unsafe uname(&names) == 0 else { return KernelVersion(0, 0) }
    let release = unsafe withUnsafeBytes(of: names.release) {
      unsafe String(decoding: $0.prefix { $0 != 0 }, as: UTF8.self)
    }
    return KernelVersion(release: release) ?? KernelVersion(0, 0)
  }()

  public static func < (left: KernelVersion, right: KernelVersion) -> Bool {
    (left.major, left.minor) < (right.major, right.minor)
  }
}
