import Testing
import VirtioCore

@Suite("Feature bits")
struct FeaturesTests {
  @Test("2.2: each bit from 0 to 127 is a bit of its own", arguments: 0..<128)
  func bits(number: Int) {
    let feature = Feature(rawValue: number)
    var features: Features = [feature]
    #expect((0..<128).filter { features.contains(Feature(rawValue: $0)) } == [number])
    #expect(features.description == "bits \(number)")
    features.insert(feature)
    #expect(features == [feature])
    features.remove(feature)
    #expect(features == [])
    #expect(features.description == "no bits")
  }

  @Test("4.2.2: word n of a transport's feature window has bits 32n to 32n+31", arguments: 0..<128)
  func words(number: Int) {
    let features: Features = [Feature(rawValue: number)]
    #expect((0..<4).map { features.word($0) } == (0..<4).map { $0 == number / 32 ? 1 << (number % 32) : 0 })
    #expect([-1, 4, Int.max].map { features.word($0) } == [0, 0, 0])
  }

  @Test("2.2: sets of features are compared and combined in both halves")
  func sets() {
    let low: Features = [Feature(rawValue: 1), Feature(rawValue: 63)]
    let high: Features = [Feature(rawValue: 64), Feature(rawValue: 127)]
    let all = low.union(high)
    #expect(all.low == UInt64(1) << 63 | 2)
    #expect(all.high == UInt64(1) << 63 | 1)
    #expect(all.intersection(high) == high)
    #expect(all.subtracting(high) == low)
    #expect(low.isSubset(of: all) && high.isSubset(of: all))
    #expect(!all.isSubset(of: low) && !all.isSubset(of: high))
    #expect(low.intersection(high).isEmpty && !high.isEmpty)
  }

  @Test("6: the ring's and transport's features have the specification's numbers")
  func numbers() {
    let numbers: [Feature] = [
      .indirectDescriptors, .eventIndex, .version1, .accessPlatform, .packedRing, .inOrder, .orderPlatform,
      .notificationData, .ringReset,
    ]
    #expect(numbers.map(\.rawValue) == [28, 29, 32, 33, 34, 35, 36, 38, 40])
  }
}
