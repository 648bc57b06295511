import Support
import VirtioCore

extension RingFixture {
  /// The heads of all chains that have come back, in whichever form the features have them come.
  mutating func takeUsedHeads(_ features: Features) throws -> [UInt16] {
    guard features.contains(.inOrder) else { return try takeAllUsed().map { UInt16(truncatingIfNeeded: $0.id) } }
    var heads: [UInt16] = []
    while let (run, _) = try takeUsedInOrder() { heads += run }
    return heads
  }
}
