import Balloon
import DeviceState
import GuestRAM
import LinuxIO
import Testing
import VirtioBlk
import VirtioCore
import VirtioNet

@testable import QEMUStream

/// Our devices on the rings of a machine of QEMU.
@Suite("Taking QEMU's devices over and giving them back") struct CarryTests {
  /// The device as it is after it has served what waits in its rings.
  private func serve<Device: VirtioDevice & ~Copyable>(
    _ device: consuming Device, _ whole: QEMUStream.WithMemory, _ model: VirtioSection.Model, isServed: Bool = true
  ) throws -> Snapshot {
    var snapshot = try whole.stream.importState(memory: whole.memory)
    let path = try whole.stream.device(model).path
    var host = DeviceHost(device) { _ in }
    try host.attach(whole.memory)
    try host.restore(from: &snapshot, instance: path)
    if isServed {
      _ = host.resume()
      _ = host.wake()
      host.pause()
    }
    let isBroken = host.isBroken
    #expect(!isBroken)
    var result = Snapshot()
    try host.save(into: &result, instance: path)
    return result
  }

  private func disk() throws -> FileStore {
    try FileStore(inMemory: 65_536)
  }

  private func used(_ whole: QEMUStream.WithMemory, _ ring: UInt64) throws -> UInt16 {
    try whole.memory.read(UInt16.self, at: GuestAddress(ring + 2))
  }

  private var balloon: BalloonOptions {
    var options = BalloonOptions()
    options.leastQueueSize = 1024
    return options
  }

  private var card: NetOptions {
    var options = NetOptions(address: .broadcast)
    options.announcesMoves = false
    return options
  }

  @Test(
    "5.2.6: a disk serves what its driver had made available and QEMU had not looked at",
    arguments: Fixture.waiting)
  func block(_ fixture: Fixture) throws {
    let whole = try fixture.read()
    _ = try serve(BlockDevice(try disk()), whole, .block)
    #expect(try used(whole, 0x10128) == 3)
    // The statuses of a read and of a write.
    #expect(try whole.memory.read(UInt8.self, at: GuestAddress(0x41400)) == 0)
    #expect(try whole.memory.read(UInt8.self, at: GuestAddress(0x42400)) == 0)
  }

  @Test("A disk that a back-end served goes on as ours, and so does a card whose driver chooses queues by hashes")
  func mappedDevices() throws {
    let whole = try Fixture.mapped.read()
    let snapshot = try serve(BlockDevice(try disk()), whole, .vhostUserBlock)
    #expect(try used(whole, 0x10128) == 3)
    #expect(try whole.memory.read(UInt8.self, at: GuestAddress(0x42400)) == 0)
    let path = try whole.stream.device(.vhostUserBlock).path
    #expect(try snapshot.read(BlockState.self, instance: path).capacitySectors == 128)
    let back = try QEMUStream.read(try export(try Fixture.mapped.bytes, whole, snapshot)).device(.vhostUserBlock)
    #expect(back.number("queues[0].lastAvailable") == 3)
    let other = try Fixture.mapped.read()
    let card = try other.stream.device(.net).path
    let imported = try other.stream.importState(memory: other.memory)
    let section = try #require(imported.sections.first { $0.name == NetState.section && $0.instance == card })
    let state = try StateTree(decoding: section.payload)
    #expect(state.bool("steering.isChosenByDriver"))
    #expect(state.number("steering.types") == 0x15)
    #expect(state.bytes("steering.key") == Array(1...40))
    #expect(state.numbers("steering.table") == [0, 0, 0, 0])
    // Our card takes it, and goes on: three commands are answered.
    _ = try serve(NetDevice(self.card, ports: [LoopbackPort()]), other, .net)
    #expect(try used(other, 0x22128) == 3)
  }

  @Test("5.2.6: a disk serves what QEMU had taken and could not do")
  func parked() throws {
    let whole = try Fixture.parked.read()
    let store = try disk()
    _ = try serve(BlockDevice(store), whole, .block)
    #expect(try used(whole, 0x10128) == 3)
    let heads = try [8, 16].map { try whole.memory.read(UInt32.self, at: GuestAddress(0x10128 + 4 + $0)) }
    #expect(Set(heads) == [3, 6])
    #expect(try whole.memory.read(UInt8.self, at: GuestAddress(0x41400)) == 0)
    #expect(try whole.memory.read(UInt8.self, at: GuestAddress(0x42400)) == 0)
  }

  @Test("5.5.6: a balloon goes on, and reads statistics again that QEMU held", arguments: Fixture.waiting)
  func balloon(_ fixture: Fixture) throws {
    let whole = try fixture.read()
    let snapshot = try serve(BalloonDevice(balloon, reclaimer: MemoryReclaimer()), whole, .balloon)
    #expect(try used(whole, 0x30128) == 2)
    #expect(try used(whole, 0x32128) == 0)
    let state = try snapshot.read(BalloonState.self, instance: try whole.stream.device(.balloon).path)
    #expect(state.statisticsHeld)
    #expect(state.statistics.map(\.value) == [0x1234000])
  }

  @Test("5.1.6: a card sends, receives and obeys as its driver had asked", arguments: Fixture.waiting)
  func net(_ fixture: Fixture) throws {
    let whole = try fixture.read()
    let snapshot = try serve(NetDevice(card, ports: [LoopbackPort()]), whole, .net)
    #expect(try used(whole, 0x20128) == 1)
    #expect(try used(whole, 0x21128) == 1)
    #expect(try used(whole, 0x22128) == 2)
    let state = try snapshot.read(NetState.self, instance: try whole.stream.device(.net).path)
    #expect(state.address.description == "52:54:00:12:34:56")
    #expect(state.isLinkWanted)
  }

  /// The stream after our devices have gone back into it.
  private func export(
    _ fixture: Fixture, _ whole: QEMUStream.WithMemory, _ snapshot: Snapshot, notifies: Bool = false
  ) throws -> [UInt8] {
    try export(try fixture.bytes, whole, snapshot, notifies: notifies)
  }

  private func export(
    _ bytes: [UInt8], _ whole: QEMUStream.WithMemory, _ snapshot: Snapshot, notifies: Bool = false
  ) throws -> [UInt8] {
    let template = try MemoryFile.create(name: "template", byteCount: 0, isResizable: true)
    try template.writeAll(bytes, at: 0)
    let output = try MemoryFile.create(name: "output", byteCount: 0, isResizable: true)
    var options = ExportOptions()
    options.notifiesDrivers = notifies
    try whole.stream.export(
      snapshot, memory: whole.memory, layout: whole.layout, template: template, to: output, options: options)
    return try output.readBytes(exactly: try output.status.byteCount, at: 0) ?? []
  }

  @Test("A stream in which nothing has happened comes out with the same fields and the same memory")
  func unchanged() throws {
    let whole = try Fixture.q35.read()
    let snapshot = try serve(BalloonDevice(balloon, reclaimer: MemoryReclaimer()), whole, .balloon, isServed: false)
    let again = try QEMUStream.readWithMemory(try export(.q35, whole, snapshot, notifies: true))
    #expect(whole.stream.differences(to: again.stream).isEmpty)
    #expect(
      try whole.memory.readBytes(1 << 20, at: GuestAddress(0)) == again.memory.readBytes(1 << 20, at: GuestAddress(0)))
    #expect(whole.stream.blocks == again.stream.blocks)
  }

  @Test("A stream made of a file in which each page has its place has its pages in order, and does not say otherwise")
  func mapped() throws {
    var template = SyntheticStream()
    template.mappedMemory([nil, 7, nil, 9])
    template.end()
    let whole = try QEMUStream.readWithMemory(template.bytes)
    let again = try QEMUStream.readWithMemory(try export(template.bytes, whole, Snapshot()))
    #expect(again.stream.configuration.isEmpty)
    #expect(again.stream.pages.whole == 2)
    let firsts = try (0..<4).map { try again.memory.read(UInt8.self, at: GuestAddress($0 * 4096)) }
    #expect(firsts == [0, 7, 0, 9])
  }

  @Test("What our disk did is in the stream: its index, and no request any more that waits")
  func exported() throws {
    let whole = try Fixture.q35.read()
    let snapshot = try serve(BlockDevice(try disk()), whole, .block)
    let disk = try QEMUStream.read(try export(.q35, whole, snapshot, notifies: true)).device(.block)
    #expect(disk.number("queues[0].lastAvailable") == 3)
    let parked = try Fixture.parked.read()
    let repaired = try serve(BlockDevice(try self.disk()), parked, .block)
    let stream = try QEMUStream.read(try export(.parked, parked, repaired))
    #expect(try stream.device(.block).number("requests[0].follows") == 0)
    #expect(try stream.device(.block).section.body.count < parked.stream.device(.block).section.body.count)
  }

  /// The stream with another entry of the disk's table of vectors for its queue.
  private func withVector(
    address: UInt32 = 0xFEE0_0000, data: UInt32, isMasked: Bool = false
  ) throws -> [UInt8] {
    var bytes = try Fixture.q35.bytes
    let table = try #require(try QEMUStream.read(bytes).device(.block).field("msix.table"))
    for (place, word) in [address, 0, data, isMasked ? 1 : 0].enumerated() {
      for byte in 0..<4 { bytes[Int(table.offset) + 16 + 4 * place + byte] = UInt8(word >> UInt32(8 * byte) & 0xFF) }
    }
    return bytes
  }

  /// What waits for the processor after our disk has served, and what is pending in the disk.
  private func interrupts(_ bytes: [UInt8], notifies: Bool = true) throws -> (waiting: [UInt64], pending: [UInt8]?) {
    let whole = try QEMUStream.readWithMemory(bytes)
    let snapshot = try serve(BlockDevice(try disk()), whole, .block)
    let stream = try QEMUStream.read(try export(bytes, whole, snapshot, notifies: notifies))
    let numbers = try ["irr[3]", "interrupt_request"].map { name in
      let section = try #require(stream.sections.first { $0.name == (name.hasPrefix("irr") ? "apic" : "cpu_common") })
      guard case .unsigned(let value)? = section.fields.first(where: { $0.name == name })?.value else {
        return UInt64.max
      }
      return value
    }
    return (numbers, try stream.device(.block).bytes("msix.pending"))
  }

  @Test("4.1.5.1.2: a driver is told of what our disk did, as by a message that its processor has not taken yet")
  func told() throws {
    let quiet = try interrupts(try withVector(data: 0x65), notifies: false)
    #expect(quiet.waiting[0] == 0)
    let told = try interrupts(try withVector(data: 0x65))
    #expect(told.waiting == [1 << 5, quiet.waiting[1] | 0x10])
    #expect(told.pending == [0])
    // To all processors.
    #expect(try interrupts(try withVector(address: 0xFEEF_F000, data: 0x66)).waiting[0] == 1 << 6)
    let masked = try interrupts(try withVector(data: 0x65, isMasked: true))
    #expect(masked.waiting[0] == 0)
    #expect(masked.pending == [2])
  }

  @Test("4.1.5.1.2: a message that no processor takes is refused, and not lost")
  func untold() throws {
    for (address, data) in [
      (UInt32(0xFEE0_1000), UInt32(0x65)), (0xFEE0_1004, 0x65), (0x9_0000, 0x65), (0xFEE0_0000, 0x8065),
      (0xFEE0_0000, 0x465), (0xFEE0_0000, 3), (0xFEE0_0010, 0x65), (0xFEE0_0020, 0x65), (0xFEE0_0800, 0x65),
    ] {
      let bytes = try withVector(address: address, data: data)
      let error = try #require(throws: QEMUStreamError.self) { try interrupts(bytes) }
      #expect(error.description.contains("which no processor of the template takes"))
    }
  }

  @Test("5.1.6.5.2: addresses that a driver has set since come before the VLANs, where the template has none")
  func addresses() throws {
    let whole = try Fixture.q35.read()
    let before = try whole.stream.device(.net)
    try #require(before.number("macCount") == 0)
    let table: [UInt64] = [0x5254_0000_0001, 0x0100_5E00_00FB]
    var snapshot = Snapshot()
    for section in try whole.stream.importState(memory: whole.memory).sections where section.instance == before.path {
      guard section.name == NetState.section else {
        try snapshot.add(section)
        continue
      }
      let tree = try StateTree(decoding: section.payload)
        .replacing("filter.unicast", with: .array([.unsigned(table[0])]))
        .replacing("filter.multicast", with: .array([.unsigned(table[1])]))
      let payload = try tree.payload()
      try snapshot.add(
        SnapshotSection(name: section.name, instance: section.instance, version: section.version, payload: payload))
    }
    let after = try QEMUStream.read(try export(.q35, whole, snapshot)).device(.net)
    #expect(after.bytes("macTable") == [0x52, 0x54, 0, 0, 0, 1, 1, 0, 0x5E, 0, 0, 0xFB])
    #expect(after.bytes("vlans") == before.bytes("vlans"))
    #expect(after.section.body.count == before.section.body.count + 12)
  }

  /// The stream with the driver's disk as it is after the driver has turned MSI-X off.
  private func withoutVectors(_ bytes: [UInt8]) throws -> [UInt8] {
    let field = try #require(try QEMUStream.read(bytes).device(.block).field("pci.config"))
    let start = Int(field.offset)
    var capability = start + Int(bytes[start + 0x34])
    while bytes[capability] != 0x11 { capability = start + Int(bytes[capability + 1]) }
    var changed = bytes
    changed[capability + 3] &= 0x7F
    return changed
  }

  @Test("4.1.5.1.2: a driver that has MSI-X off cannot be told over it, and is not told in vain")
  func vectorsOff() throws {
    let bytes = try withoutVectors(try Fixture.q35.bytes)
    let whole = try QEMUStream.readWithMemory(bytes)
    let snapshot = try serve(BlockDevice(try disk()), whole, .block)
    let error = try #require(throws: QEMUStreamError.self) {
      try export(bytes, whole, snapshot, notifies: true)
    }
    #expect(error.description.contains("without MSI-X"))
    let disk = try QEMUStream.read(try export(bytes, whole, snapshot)).device(.block)
    #expect(disk.number("queues[0].lastAvailable") == 3)
  }

  @Test("5.2.4: a capacity that the caller names wins over what the driver was told")
  func capacity() throws {
    let whole = try Fixture.q35.read()
    let path = try whole.stream.device(.block).path
    var options = ImportOptions()
    options.capacities[path] = 12_345
    let snapshot = try whole.stream.importState(memory: whole.memory, options: options)
    #expect(try snapshot.read(BlockState.self, instance: path).capacitySectors == 12_345)
  }

  @Test("What QEMU could not go on from is refused by name, before anything is written")
  func refusals() throws {
    let whole = try Fixture.microvm.read()
    let path = try whole.stream.device(.block).path
    func refusal(_ change: (inout BlockState) -> Void, instance: String? = nil, notifies: Bool = false) throws -> String
    {
      let served = try serve(BlockDevice(try disk()), whole, .block, isServed: notifies)
      var state = try served.read(BlockState.self, instance: path)
      change(&state)
      var snapshot = Snapshot()
      for section in served.sections where section.name == "block-host" { try snapshot.add(section) }
      try snapshot.add(state, instance: instance ?? path)
      let error = try #require(throws: QEMUStreamError.self) {
        try export(.microvm, whole, snapshot, notifies: notifies)
      }
      return error.description
    }
    #expect(try refusal { $0.flushFailed = true }.contains("a flush has failed"))
    #expect(try refusal { $0.capacitySectors = 7 }.contains("its capacity is not that of the template"))
    #expect(try refusal { $0.writeback.toggle() }.contains("when writes are stable"))
    #expect(try refusal({ _ in }, instance: "0000:00:1e.0").contains("has no such device"))
    #expect(try refusal({ _ in }, notifies: true).contains("without MSI-X"))
  }

  @Test("A driver of the time before virtio 1.0 cannot be taken over, and memory is left alone")
  func legacy() throws {
    var bytes = SyntheticStream.balloon
    bytes[12] = 7
    var stream = SyntheticStream()
    stream.memory(pages: 1) { $0.zeroPage(0, block: "microvm.ram") }
    stream.virtio("virtio-mmio@0/virtio-balloon", bytes)
    stream.end()
    let whole = try QEMUStream.readWithMemory(stream.bytes)
    let error = try #require(throws: QEMUStreamError.self) { try whole.stream.importState(memory: whole.memory) }
    #expect(error.description.contains("the time before virtio 1.0"))
  }
}
