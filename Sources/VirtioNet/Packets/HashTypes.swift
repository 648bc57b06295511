/// The kinds of hash (5.1.6.4.3.1).
public struct HashTypes: OptionSet, Sendable {
  public let rawValue: UInt32
  public init(rawValue: UInt32) { self.rawValue = rawValue }

  public static let all = HashTypes(rawValue: 0x1FF)
}
