import GuestRAM
import SimulatedGuest
import Testing
import VirtioBlk
import VirtioCore
import VirtioNet

/// Whoever looks for faults has to find them.
@Suite("Guest: disk and wire") struct DiskAndWireTests {
  /// A port whose other side is the test.
  private final class Wire: PacketPort {
    let name = "wire"
    let takenOffloads: Offloads = .all
    let descriptor: Int32? = nil
    let counters = PortCounters()
    let failure: PortError? = nil
    var sent: [[UInt8]] = []
    var waiting: [[UInt8]] = []

    func setGivenOffloads(_ offloads: Offloads) {}

    func send(_ batch: inout PacketBatch) {
      for index in 0..<batch.count { sent.append(Array(batch.bytes[batch.frame(index)])) }
      batch.removeAll()
    }

    func receive(into batch: inout PacketBatch) {
      while let frame = waiting.first, batch.append(frame[...]) { waiting.removeFirst() }
    }
  }

  /// A guest with a disk and a card on its own thread.
  private struct Machine {
    let store: any BlockStore
    let wire = Wire()
    let block: DirectTransport<BlockDevice>
    let net: DirectTransport<NetDevice>
    var guest: Guest

    init(_ store: any BlockStore) throws {
      self.store = store
      let memory = try GuestMemory(byteCount: 1024 * 4096)
      block = try DirectTransport(BlockDevice(store), memory: memory)
      let options = NetOptions(address: EthernetAddress([2, 0, 0, 0, 0, 1], at: 0))
      net = try DirectTransport(NetDevice(options, ports: [wire]), memory: memory)
      var configuration = GuestConfiguration(seed: 5, diskPages: 8)
      configuration.block.blockCount = 16
      guest = try Guest.boot(configuration, in: memory, GuestDevices(block: block, net: net))
    }

    /// Gives the card some frames, and runs until the guest has looked at them.
    mutating func receive(_ frames: [[UInt8]]) throws {
      wire.waiting += frames
      net.host.wake()
      try guest.run(steps: 2)
    }

    var fault: String? { get throws { try guest.checkIntegrity().mismatch?.what } }
  }

  private func machine() throws -> Machine { try Machine(FileStore(inMemory: 1 << 16)) }

  private func packet(_ number: UInt64) -> [UInt8] {
    NumberedPacket(number: number, from: [2, 0, 0, 0, 0, 2], to: [2, 0, 0, 0, 0, 1]).bytes
  }

  @Test("5.2.6, 5.1.6: a guest reads what it wrote, and sends its packets in order and once")
  func works() throws {
    var machine = try machine()
    try machine.guest.run(steps: 40)
    #expect(try machine.fault == nil)
    let answers = try #require(try machine.guest.block?.answerCounts())
    #expect(answers.reads > 50 && answers.writes > 50 && answers.flushes > 3)
    #expect(machine.wire.sent.count > 200)
    for (number, frame) in machine.wire.sent.enumerated() {
      guard case .packet(let packet) = NumberedPacket.read(frame) else {
        Issue.record("frame \(number) is no packet")
        return
      }
      #expect(packet.number == UInt64(number))
    }
  }

  @Test("a write that is lost, and one that is undone by an older one, are found", arguments: [true, false])
  func staleBlock(isOlder: Bool) throws {
    var machine = try machine()
    try machine.guest.run(steps: 40)
    try machine.guest.rest(true)
    try machine.guest.run(steps: 2)
    let scratch = try GuestMemory(byteCount: 4096)
    for block: UInt64 in 0..<16 {
      let sequence = try #require(try machine.guest.block?.sequence(ofBlock: block, in: .completed))
      try #require(sequence > 1)
      let old = BlockContent(block: block, sequence: isOlder ? sequence - 1 : 0)
      try scratch.write(bytes: old.bytes, at: GuestAddress(0))
      var data = BlockData()
      data.load([GuestBuffer(address: GuestAddress(0), byteCount: 4096)], byteCount: 4096, of: scratch)
      _ = try machine.store.perform(.write(at: block * 4096), &data, mayWait: true)
    }
    #expect(try machine.fault == nil)
    try machine.guest.rest(false)
    try machine.guest.run(steps: 10)
    #expect(try machine.fault?.hasPrefix("disk block ") == true)
  }

  @Test("a request that fails is found")
  func failure() throws {
    let rule = FaultRule(.failure, of: [.flush])
    var machine = try Machine(FaultyStore(FileStore(inMemory: 1 << 16), rules: [rule], seed: 1))
    try machine.guest.run(steps: 30)
    #expect(try machine.fault?.hasPrefix("status of a request") == true)
  }

  @Test("packets that are lost are counted; others than numbered ones too")
  func lost() throws {
    var machine = try machine()
    try machine.receive([packet(0), packet(1), packet(5), [UInt8](repeating: 0xFF, count: 60), packet(6)])
    let counts = try #require(try machine.guest.net?.counts())
    #expect(counts.received == 4 && counts.lost == 3 && counts.foreign == 1)
    #expect(try machine.fault == nil)
  }

  @Test("a packet that comes twice, one that comes too late, and one that is damaged are found", arguments: 0..<3)
  func wrongPackets(kind: Int) throws {
    var machine = try machine()
    try machine.receive([packet(0), packet(1), packet(3)])
    #expect(try machine.fault == nil)
    var damaged = packet(4)
    damaged[40] ^= 1
    try machine.receive([[packet(3), packet(2), damaged][kind]])
    let found = try #require(try machine.fault)
    #expect(found.hasPrefix(["packet 3, which came again", "packet 2, which came again", "packet 4, damaged"][kind]))
  }

  @Test("a guest that has a disk or a card does not go on without")
  func withoutDevices() throws {
    var machine = try machine()
    try machine.guest.run(steps: 3)
    let state = machine.guest.save()
    let memory = machine.guest.memory
    for devices in [GuestDevices(block: machine.block), GuestDevices(net: machine.net)] {
      #expect(throws: GuestError.transport(.gone)) { _ = try Guest(restoring: state, in: memory, devices) }
    }
  }

  @Test("a driver page that is damaged is refused by name")
  func damaged() throws {
    var machine = try machine()
    let state = machine.guest.save()
    let memory = machine.guest.memory
    let devices = GuestDevices(block: machine.block, net: machine.net)
    for pointer: UInt64 in [8, 9] {
      let page = try memory.read(UInt64.self, at: GuestAddress(8 * pointer))
      for cell: UInt64 in [1, 2, 4] where pointer == 8 || cell == 1 {
        let place = GuestAddress(page + 8 * cell)
        let before = try memory.read(UInt64.self, at: place)
        try memory.write(UInt64.max, at: place)
        #expect(throws: GuestError.self) { _ = try Guest(restoring: state, in: memory, devices) }
        try memory.write(before, at: place)
      }
    }
    _ = try Guest(restoring: state, in: memory, devices)
  }
}
