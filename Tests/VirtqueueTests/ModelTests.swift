import Support
import Testing
import Virtqueue

@Suite("Virtqueue: a long random life")
struct ModelTests {
  @Test("2.7: driver and device agree after any steps, with every set of features", arguments: allRingFeatures)
  func life(features: RingFeatures) throws {
    var random = SeededGenerator(for: "ModelTests, \(features)")
    for size in [1, 2, 4, 8, 64] as [UInt16] {
      let index = UInt16.max - UInt16.random(in: 0...100, using: &random)
      var model = try Model(size: size, features: features, index: index, random: random)
      for _ in 0..<2000 { try model.step() }
      try model.finish()
      random = model.random
    }
  }
}
