import Support
import Testing
import VirtioCore

@Suite("2.2 Feature bits")
struct FeatureTests {
  @Test("2.2: every subset of what is offered starts and serves", arguments: devices)
  func subsets(device: any DeviceUnderTest) throws {
    try device.checkEverySubsetOfFeatures()
  }

  @Test("2.2.2: a bit that is not offered is refused, each of the 128", arguments: devices)
  func notOffered(device: any DeviceUnderTest) throws {
    try device.checkFeaturesNotOffered()
  }
}

extension Harness where Device: ~Copyable {
  func checkEverySubsetOfFeatures() throws {
    let offered = try bench().host.offeredFeatures
    let bits = (0..<128).map { Feature(rawValue: $0) }.filter { offered.contains($0) && $0 != .version1 }
    var bench = try bench(ringSize: 16)
    // All of them while there are few, or else none, all, and some.
    var generator = SeededGenerator(for: "every subset of what is offered starts and serves")
    let count = UInt64(1) << UInt64(bits.count)
    let masks = count <= 4096 ? Array(0..<count) : [0, count - 1] + (0..<1000).map { _ in generator.next() % count }
    for mask in masks {
      var features: Features = [.version1]
      for (place, bit) in bits.enumerated() where mask >> UInt64(place) & 1 != 0 { features.insert(bit) }
      try bench.restart(features)
      try bench.ask(self, 0..<bench.rings.count)
      #expect(bench.host.features == features)
      #expect(try bench.rings[0].publishedUsedIndex == 1)
    }
  }

  func checkFeaturesNotOffered() throws {
    var bench = try bench()
    for number in 0..<128 {
      let bit = Feature(rawValue: number)
      guard !bench.host.offeredFeatures.contains(bit) else { continue }
      try bench.host.writeStatus(driverSteps[1])
      bench.host.writeFeatures([.version1, bit])
      #expect(throws: HostError.self) { try bench.host.writeStatus(driverSteps[2]) }
      #expect(bench.host.status == driverSteps[1])
    }
  }
}
