import DeviceState
import Foundation
import Support
import Testing
import VirtioCore

@testable import VirtioNet

@Suite("Net: state")
struct NetSavedStateTests {
  @Test("the schema is what it was")
  func schema() throws {
    #expect(
      try Schema.text(of: NetState.self) == """
        net version 2
          address: u64
          isLinkWanted: bool
          asksToAnnounce: bool
          pairCount: u16
          takenOffloads: u32
          filter: record
            modes: u8
            unicast: [u64]
            multicast: [u64]
            hasTooManyUnicast: bool
            hasTooManyMulticast: bool
            vlans: [u64]
          steering: record
            isChosenByDriver: bool
            types: u32
            key: bytes
            table: [u16]
            unclassified: u16
          coalescing: record
            receive: record
              packets: u32
              microseconds: u32
            transmit: record
              packets: u32
              microseconds: u32
            queues: [record], since 2, else []
              queue: u16
              limits: record
                packets: u32
                microseconds: u32
          names: record
            ipv4: [u32]
            ipv6: [bytes]
          counters: record
            receivedPackets: u64
            receivedBytes: u64
            transmittedPackets: u64
            transmittedBytes: u64
            commands: u64
            refusedCommands: u64
            dropCounts: [u64]

        """)
    #expect(try Schema(of: NetState.self).violations.isEmpty)
  }

  static let features: Features = NetControlTests.all.union([
    .netMultiqueue, .netRSS, .netHashReport, .netQueueNotificationCoalescing,
  ])

  private static func limits(_ packets: UInt32, _ microseconds: UInt32) -> Coalescing.Limits {
    var limits = Coalescing.Limits()
    limits.packets = packets
    limits.microseconds = microseconds
    return limits
  }

  /// A state with another value in every field of version 1, of a driver with `features` on a card with three pairs of queues.
  private static var firstSample: NetState {
    var state = NetState()
    state.address = NetControlTests.other
    state.isLinkWanted = false
    state.asksToAnnounce = true
    state.pairCount = 3
    state.takenOffloads = Offloads.checksum.rawValue
    state.filter.modes = [.allMulticast, .noBroadcast]
    state.filter.unicast = [cardAddress, NetControlTests.other]
    state.filter.multicast = [NetControlTests.group]
    state.filter.hasTooManyUnicast = true
    state.filter.hasTooManyMulticast = true
    state.filter.beginVLANs()
    state.filter.setVLAN(4095, isWanted: true)
    state.steering.isChosenByDriver = true
    state.steering.types = 0x1FE
    state.steering.key = FlowHashTests.key
    state.steering.table = [0, 1, 2, 1]
    state.steering.unclassified = 2
    state.coalescing.setReceive(limits(1, 2))
    state.coalescing.setTransmit(limits(3, 4))
    var batch = PacketBatch()
    batch.append(Announcement.gratuitousRequest(mac: cardAddress, address: 0x0A00_0001)[...])
    if let frame = Announcement.neighbourAdvertisement(mac: cardAddress, address: Array(0xFD..<0xFF) + Array(0..<14)) {
      batch.append(frame[...])
    }
    state.names.look(at: batch)
    state.counters.receivedPackets = 0x0102_0304_0506_0708
    state.counters.receivedBytes = 6
    state.counters.transmittedPackets = 7
    state.counters.transmittedBytes = 8
    state.counters.commands = 9
    state.counters.refusedCommands = 10
    for (index, reason) in DropReason.allCases.enumerated() { state.counters.drop(reason, 11 + index) }
    return state
  }

  @Test("each version is written and read as it was", arguments: [(1, firstSample), (2, sample)])
  func golden(version: Int, sample: NetState) throws {
    let name = "net-v\(version)"
    let url = try #require(Bundle.module.url(forResource: name, withExtension: "hex", subdirectory: "Fixtures"))
    let digits = try String(contentsOf: url, encoding: .utf8).filter { (digit: Character) in !digit.isWhitespace }
    let written = try sample.encoded(as: version).map { String(format: "%02x", $0) }.joined()
    #expect(written == digits, "written now: \(written)")
    let bytes = stride(from: 0, to: digits.count, by: 2).compactMap { offset in
      UInt8(digits.dropFirst(offset).prefix(2), radix: 16)
    }
    #expect(try NetState(decoding: bytes, version: version) == sample)
  }

  /// A state with another value in every field.
  private static var sample: NetState {
    var state = firstSample
    state.coalescing.set(limits(5, 6), queue: 5)
    state.coalescing.set(limits(7, 8), queue: 0)
    return state
  }

  private func card(_ features: Features = features, pairs: Int = 3) throws -> NetBench {
    var bench = try NetBench.card(ScriptedPort(), pairs: pairs)
    try bench.start(features)
    return bench
  }

  /// The field that a card refuses a state for; nil when it takes it.
  private func refusal(_ state: NetState, _ bench: inout NetBench) -> String? {
    do throws(StateError) {
      try bench.host.update { (device) throws(StateError) in try device.adopt(state) }
    } catch {
      guard case .invalidValue("net", let field, _) = error else { return "\(error)" }
      return field
    }
    return nil
  }

  @Test("a card gives back the state that it adopted, in every field")
  func identity() throws {
    var bench = try card()
    #expect(refusal(Self.sample, &bench) == nil)
    #expect(bench.host.device.state == Self.sample)
  }

  @Test("a state that no card can be in is refused by the field's name, and changes nothing")
  func damaged() throws {
    let damages: [(String, (inout NetState) -> Void)] = [
      ("address", { $0.address = .broadcast }),
      ("address", { $0.address = NetControlTests.group }),
      ("address", { $0.address = EthernetAddress([0, 0, 0, 0, 0, 0], at: 0) }),
      ("pairCount", { $0.pairCount = 0 }),
      ("pairCount", { $0.pairCount = 4 }),
      ("takenOffloads", { $0.takenOffloads = Offloads.tcp6.rawValue }),
      ("takenOffloads", { $0.takenOffloads = .max }),
      ("filter.vlans", { $0.filter.vlans = [] }),
      ("filter.vlans", { $0.filter.vlans.removeLast() }),
      ("filter.vlans", { $0.filter.vlans.append(0) }),
      ("filter", { $0.filter.unicast = [EthernetAddress](repeating: cardAddress, count: 65) }),
      ("filter", { $0.filter.multicast = [EthernetAddress](repeating: NetControlTests.group, count: 65) }),
      ("steering", { $0.steering.table = [0, 1, 2] }),
      ("steering", { $0.steering.table = [0, 3] }),
      ("steering", { $0.steering.table = [0, .max] }),
      ("steering", { $0.steering.table = [UInt16](repeating: 0, count: 256) }),
      ("steering", { $0.steering.unclassified = 3 }),
      ("steering", { $0.steering.types = 0x200 }),
      ("steering", { $0.steering.key.append(0) }),
      ("coalescing", { $0.coalescing.set(Self.limits(1, 1), queue: 6) }),
      ("coalescing", { $0.coalescing.queues.append($0.coalescing.queues[0]) }),
      ("names", { $0.names.ipv4 = [UInt32](repeating: 1, count: 9) }),
      ("names", { $0.names.ipv6 = [[UInt8]](repeating: [UInt8](repeating: 1, count: 16), count: 9) }),
      ("names", { $0.names.ipv6[0].removeLast() }),
    ]
    var bench = try card()
    let before = bench.host.device.state
    for (field, damage) in damages {
      var state = Self.sample
      damage(&state)
      #expect(refusal(state, &bench) == field)
      #expect(bench.host.device.state == before)
    }
    #expect(refusal(Self.sample, &bench) == nil)
  }

  @Test(
    "a state with what was not negotiated is refused",
    arguments: [
      ("filter.vlans", [.netControlVLAN]), ("takenOffloads", [.netGuestChecksum]),
      ("pairCount", [.netMultiqueue, .netRSS]), ("steering", [.netRSS]),
      ("coalescing", [.netQueueNotificationCoalescing]),
    ] as [(String, Features)])
  func notNegotiated(field: String, without: Features) throws {
    var bench = try card(Self.features.subtracting(without))
    let before = bench.host.device.state
    #expect(refusal(Self.sample, &bench) == field)
    #expect(bench.host.device.state == before)
  }

  @Test("a driver may go on with every command after any state that was taken")
  func goesOn() throws {
    var bench = try card()
    #expect(refusal(Self.sample, &bench) == nil)
    #expect(try bench.command([2, 0, 0xFF, 0x0F], queue: 6) == 0)
    #expect(try bench.command([2, 1, 0, 0], queue: 6) == 0)
    #expect(try bench.command([4, 0, 1, 0], queue: 6) == 0)
    #expect(bench.host.failure == nil)
  }

  @Test("counters of another version, which had fewer reasons or more, or at their limit, trap nowhere")
  func counters() throws {
    for dropCounts in [[], [1], [UInt64](repeating: .max - 1, count: 40)] {
      var bench = try card()
      var state = Self.sample
      state.counters.dropCounts = dropCounts
      state.counters.transmittedBytes = .max
      state.counters.refusedCommands = .max
      #expect(refusal(state, &bench) == nil)
      try bench.transmit([1])
      try bench.transmit(plainHeader + frame())
      #expect(try bench.command([99, 0], queue: 6) == 1)
      #expect(bench.host.device.counters.drops[.tooShort] == (dropCounts.first ?? 0) &+ 1)
      #expect(bench.host.device.counters.refusedCommands == 0)
    }
  }
}
