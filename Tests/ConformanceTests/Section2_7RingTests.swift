import GuestRAM
import Support
import Testing
import VirtioCore

@Suite("2.7 Split virtqueues")
struct RingTests {
  @Test("2.7: requests are served with every ring feature, past the wrap of the indices", arguments: devices)
  func wrap(device: any DeviceUnderTest) throws {
    try device.checkRequestsPastTheWrap()
  }

  @Test(
    "2.1.2: whatever a driver writes into its rings, calls come back, and a reset recovers", arguments: devices)
  func garbage(device: any DeviceUnderTest) throws {
    try device.checkGarbageInTheRings()
  }
}

extension Harness where Device: ~Copyable {
  func checkRequestsPastTheWrap() throws {
    var bench = try bench(ringSize: 16, index: 0xFFF0)
    try bench.start(bench.features)
    try bench.ask(self, 0..<300)
    bench.host.wake()
    #expect(bench.host.isBroken == false)
    #expect(try bench.rings[0].publishedUsedIndex == bench.rings[0].availableIndex)
    #expect(try bench.rings[0].publishedUsedIndex < 0xFFF0)
  }

  func checkGarbageInTheRings() throws {
    var random = SeededGenerator(for: "garbage in the rings of \(testDescription)")
    var bench = try bench(ringSize: 16)
    var brokenCount = 0
    for _ in 0..<300 {
      var features = bench.features
      if random.once(in: 2) { features.remove(.eventIndex) }
      if random.once(in: 2) { features.remove(.indirectDescriptors) }
      try bench.restart(features)
      try bench.ask(self, 0..<3)
      for _ in 0..<4 {
        try bench.scribble(&random)
        for queue in bench.rings.indices { bench.host.kick(queue) }
        bench.host.wake()
      }
      if bench.host.isBroken { brokenCount += 1 }
    }
    #expect(brokenCount > 100)
    try bench.restart(bench.features)
    try bench.ask(self, 0..<10)
    #expect(bench.host.isBroken == false)
  }
}

extension DeviceBench where Device: ~Copyable {
  /// Writes over a ring what a broken or hostile driver may: sound values here and there, anything elsewhere.
  fileprivate func scribble(_ random: inout SeededGenerator) throws {
    let ring = rings[Int.random(in: rings.indices, using: &random)]
    for index in 0..<ring.size where random.once(in: 3) {
      try ring.writeDescriptor(
        index, address: random.once(in: 4) ? random.next() : heap + UInt64.random(in: 0..<4096, using: &random),
        byteCount: random.once(in: 4)
          ? UInt32.random(in: 0 ... .max, using: &random) : 16 * .random(in: 0..<9, using: &random),
        flags: UInt16.random(in: 0..<8, using: &random), next: UInt16.random(in: 0..<(ring.size + 1), using: &random))
    }
    for slot in 0..<UInt64(ring.size) {
      let head = UInt16.random(in: 0..<(random.once(in: 30) ? .max : ring.size), using: &random)
      try memory.write(head, at: ring.availableRing.offset(4 + 2 * slot))
    }
    let used = try ring.publishedUsedIndex
    let step = random.once(in: 8) ? UInt16.random(in: 0 ... .max, using: &random) : .random(in: 0..<6, using: &random)
    try ring.publish(index: used &+ step)
    try memory.write(
      UInt16.random(in: 0 ... .max, using: &random), at: ring.availableRing.offset(4 + 2 * UInt64(ring.size)))
  }
}
