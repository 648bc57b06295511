import Balloon
import GuestRAM
import Support
import Synchronization
import Testing
import VirtioBlk
import VirtioCore
import VirtioNet

@Suite("What a driver has been told is looked for before its guest moves") struct ProfileTests {
  /// Judges a device that has a driver by one that has none yet.
  private func objection<Device: VirtioDevice & ~Copyable>(
    from source: consuming Device, _ features: Features, to destination: consuming Device
  ) throws -> String? {
    var bench = try DeviceBench(source)
    try bench.start(features.union([.version1]))
    var (there, here) = (GuestProfile(), GuestProfile())
    there.add(bench.host, instance: "0")
    here.add(DeviceHost(destination) { (_) in }, instance: "0")
    return here.objection(to: try there.notes)
  }

  private func disk(
    byteCount: UInt64 = 1 << 20, isReadOnly: Bool = false, _ change: (inout BlockOptions) -> Void = { _ in }
  ) -> BlockDevice {
    var options = BlockOptions()
    change(&options)
    return BlockDevice(BlankStore(byteCount: byteCount, isReadOnly: isReadOnly), options)
  }

  @Test("a disk must have the same size and be as writable, and may take larger requests")
  func disks() throws {
    #expect(try objection(from: disk(), [.blockSegmentMax], to: disk { $0.segmentMax = 200 }) == nil)
    #expect(
      try objection(from: disk(), [.blockSegmentMax], to: disk { $0.segmentMax = 100 })
        == "device block/0, buffers of a request: source: 126; destination: 100")
    #expect(try objection(from: disk(), [], to: disk { $0.segmentMax = 100 }) == nil)
    #expect(
      try objection(from: disk(), [], to: disk(byteCount: 1 << 21))
        == "device block/0, capacity in sectors: source: 2048; destination: 4096")
    #expect(
      try objection(from: disk(), [], to: disk(isReadOnly: true))
        == "device block/0, read-only: source: 0; destination: 1")
  }

  @Test("a disk that has grown since it was opened at the destination is looked at again")
  func grownDisk() throws {
    let (here, there) = (BlankStore(byteCount: 1 << 20), BlankStore(byteCount: 1 << 21))
    here.next.withLock { $0 = 1 << 21 }
    #expect(try objection(from: BlockDevice(there), [], to: BlockDevice(here)) == nil)
  }

  private func card(_ change: (inout NetOptions) -> Void = { _ in }) -> NetDevice {
    var options = NetOptions(address: EthernetAddress(rawValue: 0x5254_0012_3456) ?? .broadcast)
    options.queueSize = 16
    options.pairCount = 2
    options.announcesMoves = false
    change(&options)
    return NetDevice(options, ports: [])
  }

  @Test("a card may have another address, and needs the pairs and the packet size that its driver counts on")
  func cards() throws {
    let other = try #require(EthernetAddress(rawValue: 0x5254_0065_4321))
    #expect(try objection(from: card(), [.netMAC], to: card { $0.address = other }) == nil)
    let pairs: Features = [.netControlQueue, .netMultiqueue]
    #expect(
      try objection(from: card(), pairs, to: card { $0.pairCount = 3 })
        == "device net/0, pairs of queues: source: 2; destination: 3")
    #expect(try objection(from: card(), [], to: card { $0.pairCount = 3 }) == nil)
    let large = card { $0.mtu = 9000 }
    #expect(
      try objection(from: large, [.netMTU], to: card { $0.mtu = 1500 })
        == "device net/0, largest packet: source: 9000; destination: 1500")
  }

  @Test("features of a balloon are refused by their names")
  func balloons() throws {
    func balloon(_ hasStatistics: Bool) -> BalloonDevice<CountingReclaimer> {
      var options = BalloonOptions()
      options.statistics = hasStatistics
      return BalloonDevice(options, reclaimer: CountingReclaimer())
    }
    #expect(try objection(from: balloon(true), [], to: balloon(false)) == nil)
    #expect(
      try objection(from: balloon(true), [.statisticsQueue], to: balloon(false))
        == "device balloon/0: source: uses feature STATS_VQ (bit 1); destination: does not offer it")
  }

  @Test("a card of the most queues fits a note")
  func largest() throws {
    var profile = GuestProfile()
    profile.add(DeviceHost(card { $0.pairCount = 128 }) { (_) in }, instance: String(repeating: "x", count: 200))
    let note = try #require(try profile.notes.first)
    #expect(note.name.utf8.count <= 255 && note.text.utf8.count <= 4096)
  }
}

/// A disk of zeros, whose size may change without its being told.
private final class BlankStore: BlockStore {
  let isReadOnly: Bool
  let limits = BlockLimits()
  let next: Mutex<UInt64>
  private let size: Mutex<UInt64>

  init(byteCount: UInt64, isReadOnly: Bool = false) {
    self.isReadOnly = isReadOnly
    size = Mutex(byteCount)
    next = Mutex(byteCount)
  }

  var byteCount: UInt64 { size.withLock { $0 } }

  func refresh() throws(StoreError) {
    let new = next.withLock { $0 }
    size.withLock { $0 = new }
  }

  func perform(_ operation: BlockOperation, _ data: inout BlockData, mayWait: Bool) throws(StoreError) -> Bool { true }
}
