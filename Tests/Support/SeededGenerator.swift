import Foundation

/// Random numbers that a seed decides, so that a failing test can be run again as it was.
///
/// SplitMix64: short, and good enough to choose steps.
public struct SeededGenerator: RandomNumberGenerator {
  /// What to start again from.
  public let seed: UInt64
  private var state: UInt64

  public init(seed: UInt64) {
    self.seed = seed
    state = seed
  }

  /// Starts from `VIRTIOKIT_SEED` if that is set, or else anywhere, and prints the line that starts it there again.
  public init(for test: String) {
    let chosen = ProcessInfo.processInfo.environment["VIRTIOKIT_SEED"].flatMap { UInt64($0) }
    self.init(seed: chosen ?? UInt64.random(in: 0...UInt64(UInt32.max)))
    print("VIRTIOKIT_SEED=\(seed) repeats: \(test)")
  }

  public mutating func next() -> UInt64 {
    state &+= 0x9E37_79B9_7F4A_7C15
    var mixed = state
    mixed = (mixed ^ (mixed >> 30)) &* 0xBF58_476D_1CE4_E5B9
    mixed = (mixed ^ (mixed >> 27)) &* 0x94D0_49BB_1331_11EB
    return mixed ^ (mixed >> 31)
  }

  /// True once in `count` times.
  public mutating func once(in count: Int) -> Bool {
    Int.random(in: 0..<count, using: &self) == 0
  }
}
