import GuestRAM
import Support
import Testing
import VirtioCore
import VirtioNet

@testable import Recording

/// A port that has packets and room as a test says.
private final class TestPort: PacketPort {
  let name = "test"
  let descriptor: Int32? = nil
  var counters = PortCounters()
  var failure: PortError?
  var takenOffloads: Offloads = .all
  var room = Int.max
  var waiting: [[UInt8]] = []

  func setGivenOffloads(_ offloads: Offloads) {}

  func send(_ batch: inout PacketBatch) {
    let count = min(room, batch.count)
    batch.removeFirst(count)
    room -= count
  }

  func receive(into batch: inout PacketBatch) {
    while let frame = waiting.first, batch.append(frame[...]) { waiting.removeFirst() }
  }
}

/// A driver of a recorded card that sends and takes packets and gives commands, as a seed decides.
private final class CardDriver {
  private var bench: DeviceBench<RecordedDevice<NetDevice>>
  private let port = TestPort()
  private var random: SeededGenerator
  /// Room for buffers that no chain has, by number: what is on its way is left alone.
  private var freePlaces = Set<UInt64>(0..<120)
  /// The places of chains that are out, by queue and head.
  private var places: [[UInt16: [UInt64]]] = []

  init(_ random: SeededGenerator, to tape: Tape, _ features: Features) throws {
    var options = NetOptions(address: EthernetAddress([2, 0, 0, 0, 0, 1], at: 0))
    options.pairCount = 2
    options.mtu = 1500
    bench = try DeviceBench(RecordedDevice(options, ports: [port], to: tape.sink), ringSize: 16)
    self.random = random
    places = bench.rings.map { _ in [:] }
    try bench.start(bench.host.offeredFeatures.intersection(features).union([.version1]))
  }

  func finish() {
    bench.host.update { $0.recorder?.finish() }
  }

  func act() throws {
    switch Int.random(in: 0..<16, using: &random) {
    case 0: bench.host.update { [isUp = random.once(in: 4)] in $0.setLink(isUp: !isUp) }
    case 1: bench.host.update { $0.announce() }
    case 2: port.room = Int.random(in: 0..<4, using: &random)
    case 3: port.room = .max
    case 4: port.failure = random.once(in: 4) ? .disconnected("test") : nil
    case 5: try command()
    case 6...8: try transmit()
    case 9, 10: try offerRoom()
    default: receive()
    }
    for queue in bench.rings.indices {
      for head in try bench.rings[queue].takeUsedHeads(bench.host.features) {
        freePlaces.formUnion(places[queue].removeValue(forKey: head) ?? [])
      }
    }
  }

  /// Offers a chain of device-readable bytes and room for others, if there is a place for it.
  private func offer(_ bytes: [UInt8], room: Int, to queue: Int) throws {
    guard let first = freePlaces.popFirst(), let second = freePlaces.popFirst() else { return }
    let (readable, writable) = (bench.heap + 2048 * first, bench.heap + 2048 * second)
    try bench.memory.write(bytes: bytes, at: GuestAddress(readable))
    try bench.memory.write(bytes: [UInt8](repeating: 0xEE, count: room), at: GuestAddress(writable))
    let buffers = [RingFixture.Buffer.readable(readable, UInt32(bytes.count)), .writable(writable, UInt32(room))]
    if let head = try bench.rings[queue].add(buffers.filter { $0.byteCount > 0 }) {
      places[queue][head] = [first, second]
    } else {
      freePlaces.formUnion([first, second])
    }
    try bench.rings[queue].publish()
  }

  private func frame() -> [UInt8] {
    let destinations: [[UInt8]] = [[2, 0, 0, 0, 0, 1], [0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF], [2, 0, 0, 0, 0, 9]]
    let destination = destinations.randomElement(using: &random) ?? []
    return destination
      + (0..<Int.random(in: 2..<200, using: &random)).map { _ in UInt8.random(in: 0...255, using: &random) }
  }

  private func receive() {
    for _ in 0..<Int.random(in: 0..<5, using: &random) { port.waiting.append(frame()) }
    bench.host.wake()
  }

  private func offerRoom() throws {
    let queue = 2 * Int.random(in: 0...1, using: &random)
    for _ in 0..<4 { try offer([], room: [64, 300, 2048].randomElement(using: &random) ?? 64, to: queue) }
    bench.host.kick(queue)
  }

  private func transmit() throws {
    let queue = 1 + 2 * Int.random(in: 0...1, using: &random)
    for _ in 0..<Int.random(in: 1..<4, using: &random) {
      try offer([UInt8](repeating: 0, count: 12) + frame(), room: 0, to: queue)
    }
    bench.host.kick(queue)
  }

  /// Promiscuity, pairs of queues, or a command that there is not.
  private func command() throws {
    let commands: [[UInt8]] = [[0, 0, 1], [0, 0, 0], [4, 0, 2, 0], [4, 0, 1, 0], [9, 9, 9]]
    let queue = bench.host.features.contains(.netMultiqueue) ? 4 : 2
    guard bench.host.features.contains(.netControlQueue) else { return }
    try offer(commands.randomElement(using: &random) ?? [], room: 1, to: queue)
    bench.host.kick(queue)
  }
}

@Suite("Recordings of network cards") struct CardRecordingTests {
  private static let all = Features(low: ~0).subtracting([.inOrder, .indirectDescriptors, .eventIndex])

  /// What a driver did, recorded.
  static func recording(
    _ random: SeededGenerator, actCount: Int, _ features: Features = all
  ) throws -> [UInt8] {
    let tape = Tape()
    let driver = try CardDriver(random, to: tape, features)
    for _ in 0..<actCount { try driver.act() }
    driver.finish()
    #expect(tape.failures == [])
    return tape.bytes
  }

  @Test("a card that is recorded asks of where its guest goes what it asks without")
  func profile() {
    var options = NetOptions(address: EthernetAddress([2, 0, 0, 0, 0, 1], at: 0))
    options.pairCount = 2
    let recorded = RecordedDevice(options, ports: [TestPort()], to: Tape().sink)
    let (constants, names) = (recorded.constants(), RecordedDevice<NetDevice>.featureNames)
    #expect(constants == NetDevice(options, ports: [TestPort()]).constants())
    #expect(!constants.isEmpty)
    #expect(names == NetDevice.featureNames)
  }

  @Test(
    "what a driver and a port did to a card give the same outputs again",
    arguments: [
      all, all.subtracting([.netMergeableBuffers]), all.subtracting([.netMultiqueue, .netRSS]), all.union([.inOrder]),
    ])
  func replay(_ features: Features) throws {
    let random = SeededGenerator(for: "a recorded card")
    let recording = try Recording(try Self.recording(random, actCount: 300, features))
    let result = try recording.replay()
    #expect(result.difference == nil)
    #expect(result.stepCount > 150)
    let acts = try (0..<recording.stepCount).flatMap { try recording.outcome(of: $0).exchanges.map(\.act.kind) }
    #expect(Set(acts).isSuperset(of: [.send, .receive]))
  }
}
