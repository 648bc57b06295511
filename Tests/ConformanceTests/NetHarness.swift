import GuestRAM
import Support
import VirtioNet

extension Harness<NetDevice> {
  /// A card of two pairs of queues and all features, which gets packets, buffers and commands of every kind.
  static var net: Self {
    Harness(testDescription: "net", make: makeCard) { queue, number, place in
      if queue == 4 { return try command(number, place) }
      if queue % 2 == 0 { return [.writable(place.room, 256)] }
      // The header with a hash is 20 bytes; all zeros leave nothing undone.
      try place.memory.write(bytes: [UInt8](repeating: 0, count: 20 + 12), at: GuestAddress(place.room))
      try place.memory.write(UInt16(truncatingIfNeeded: number), at: GuestAddress(place.room + 32))
      return number % 2 == 0
        ? [.readable(place.room, 84)]
        : [.readable(place.room, 20), .readable(place.room + 20, 1), .readable(place.room + 21, 63)]
    }
  }

  /// A command, and the byte of its answer.
  private static func command(_ number: Int, _ place: Place) throws -> [RingFixture.Buffer] {
    let low = UInt8(truncatingIfNeeded: number)
    let commands: [[UInt8]] = [
      [0, 1, low % 2], [1, 1, 2, 0, 0, 0, 0, low], [2, low % 2, low, 0], [4, 0, low % 3, 0],
      [6, low % 2, low, 0, 0, 0, 1, 0, 0, 0], [1, 0, 1, 0, 0, 0, 2, 0, 0, 0, 0, low, 0, 0, 0, 0], [3, 0],
      [5, 0, 2, 0, 0, 0, 0, 0, 0, 0], [4, 1, 1, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 2, 0, 0],
    ]
    let bytes = commands[number / 5 % commands.count]
    try place.memory.write(bytes: bytes, at: GuestAddress(place.room))
    return [.readable(place.room, UInt32(bytes.count)), .writable(place.room + 128, 1)]
  }

  @Sendable
  private static func makeCard() -> NetDevice {
    var options = NetOptions(address: EthernetAddress(rawValue: 0x5254_0012_3456) ?? .broadcast)
    options.pairCount = 2
    options.queueSize = 64
    options.mtu = 1500
    options.speed = 10000
    // A card that stayed would have nothing to announce.
    options.announcesMoves = false
    // With one for both pairs, packets that nobody has buffers for would be dropped, without end.
    return NetDevice(options, ports: [EndlessPort(), EndlessPort()])
  }
}

/// Takes everything, and always has another packet, but for a driver whose buffers never hold one or who wants them in a
/// queue without buffers.
private final class EndlessPort: PacketPort {
  let name = "endless"
  var takenOffloads: Offloads { .all }
  var descriptor: Int32? { nil }
  var counters = PortCounters()
  var failure: PortError? { nil }

  func setGivenOffloads(_ offloads: Offloads) {}

  func send(_ batch: inout PacketBatch) {
    counters.sent += UInt64(batch.count)
    batch.removeAll()
  }

  func receive(into batch: inout PacketBatch) {
    guard counters.received < 100_000 else { return }
    counters.received += 1
    batch.append([UInt8](repeating: 0xFF, count: 60)[...])
  }
}
