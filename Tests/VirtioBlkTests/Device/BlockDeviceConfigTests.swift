import Support
import Testing
import VirtioBlk
import VirtioCore

@Suite("5.2.4 Block device: configuration space") struct BlockDeviceConfigTests {
  private static func field(_ guest: BlockGuest, _ offset: Int, _ byteCount: Int) -> UInt64 {
    guest.bench.host.readConfig(at: offset, byteCount: byteCount).reversed().reduce(0) { $0 << 8 | UInt64($1) }
  }

  @Test("5.2.4: every field is at its offset, in 96 bytes")
  func fields() throws {
    var limits = BlockLimits()
    limits.blockByteCount = 1024
    limits.physicalBlockByteCount = 8192
    limits.discardByteCount = 65536
    var options = BlockOptions()
    options.segmentMax = 0x0102_0304
    options.sizeMax = 0x0506_0708
    options.queueCount = 3
    let guest = try BlockGuest(RecordingStore(sectorCount: 0x101, limits: limits), options)
    #expect(guest.bench.host.device.config.count == 96)
    let expected: [(Int, Int, UInt64)] = [
      (0, 8, 0x101),  // capacity, in sectors of 512 bytes
      (8, 4, 0x0506_0708),  // size_max
      (12, 4, 0x0102_0304),  // seg_max
      (16, 4, 0),  // geometry
      (20, 4, 1024),  // blk_size
      (24, 1, 3),  // physical_block_exp
      (25, 1, 0),  // alignment_offset
      (26, 2, 1),  // min_io_size
      (28, 4, 8),  // opt_io_size
      (32, 1, 1),  // writeback
      (33, 1, 0),  // unused0
      (34, 2, 3),  // num_queues
      (36, 4, 1 << 22),  // max_discard_sectors
      (40, 4, 16),  // max_discard_seg
      (44, 4, 128),  // discard_sector_alignment
      (48, 4, 1 << 22),  // max_write_zeroes_sectors
      (52, 4, 16),  // max_write_zeroes_seg
      (56, 1, 1),  // write_zeroes_may_unmap
      (57, 3, 0),  // unused1
    ]
    for (offset, byteCount, value) in expected {
      #expect(Self.field(guest, offset, byteCount) == value, "at offset \(offset)")
    }
    #expect(guest.bench.host.readConfig(at: 60, byteCount: 36) == [UInt8](repeating: 0, count: 36))
    #expect(guest.bench.rings.count == 3)
  }

  @Test("5.2.3: VIRTIO_BLK_F_MQ comes with several queues, SIZE_MAX with its option; others are as they stand in 5.2.3")
  func features() throws {
    let plain = try BlockGuest(RecordingStore()).bench.host.device.offeredFeatures
    // SEG_MAX, BLK_SIZE, FLUSH, TOPOLOGY, CONFIG_WCE, DISCARD, WRITE_ZEROES
    #expect(plain == Features(low: 1 << 2 | 1 << 6 | 1 << 9 | 1 << 10 | 1 << 11 | 1 << 13 | 1 << 14))
    var options = BlockOptions()
    options.sizeMax = 4096
    options.queueCount = 2
    options.configurableWriteback = false
    let other = try BlockGuest(RecordingStore(), options).bench.host.device.offeredFeatures
    #expect(other.low == plain.low & ~(1 << 11) | 1 << 1 | 1 << 12)
    // 5.2.5.2: CONFIG_WCE is not offered without FLUSH.
    options.flush = false
    options.configurableWriteback = true
    let bare = try BlockGuest(RecordingStore(), options).bench.host.device.offeredFeatures
    #expect(bare.low & (Bit.flush | Bit.configurableWriteback) == 0)
  }

  @Test("5.2.5.2: writeback begins with 1, or with 0 for a driver that cannot flush")
  func initialWriteback() throws {
    let guest = try BlockGuest(RecordingStore())
    #expect(Self.field(guest, 32, 1) == 1)
    try guest.bench.host.writeStatus([])
    try guest.start(accepting: Bit.configurableWriteback)
    #expect(Self.field(guest, 32, 1) == 0)
  }

  @Test("5.2.5.2: the driver writes writeback and nothing else, whatever it writes")
  func writes() throws {
    let guest = try BlockGuest(RecordingStore())
    let before = guest.bench.host.device.config
    for value: UInt8 in [0, 1, 0x7F, 0xFF] {
      for start in 0..<96 {
        for count in 1...(96 - start) {
          let old = Self.field(guest, 32, 1)
          try guest.bench.host.writeConfig([UInt8](repeating: value, count: count), at: start)
          var expected = before
          expected[32] = start <= 32 && start + count > 32 ? min(value, 1) : UInt8(old)
          #expect(guest.bench.host.device.config == expected)
        }
      }
    }
  }

  @Test("5.2.5.2: writeback is not writable without VIRTIO_BLK_F_CONFIG_WCE")
  func notNegotiated() throws {
    let guest = try BlockGuest(RecordingStore(), accepting: Bit.all & ~Bit.configurableWriteback)
    try guest.bench.host.writeConfig([0], at: 32)
    #expect(Self.field(guest, 32, 1) == 1)
  }

  @Test("5.2.5.1: a new capacity is told to the driver, and holds for its requests")
  func capacity() throws {
    let guest = try BlockGuest(RecordingStore(sectorCount: 8))
    #expect(try guest.status(Type.read, sector: 8, room: 512) == Status.failed)
    guest.bench.notifications.all = []
    let generation = guest.bench.host.configGeneration
    try guest.bench.host.update { (device) throws in try device.resize(toByteCount: 16 * 512) }
    #expect(guest.bench.notifications.take() == [.configuration])
    #expect(guest.bench.host.configGeneration != generation)
    #expect(Self.field(guest, 0, 8) == 16)
    #expect(try guest.ask(Type.read, sector: 8, room: 512)?.data == [UInt8](repeating: 0, count: 512))
    try guest.bench.host.update { (device) throws in try device.resize(toByteCount: 4 * 512) }
    #expect(Self.field(guest, 0, 8) == 4)
    #expect(try guest.status(Type.read, sector: 4, room: 512) == Status.failed)
    guest.bench.notifications.all = []
    try guest.bench.host.update { (device) throws in try device.resize(toByteCount: 4 * 512) }
    #expect(guest.bench.notifications.take() == [])
  }

  @Test("a store that keeps its size says so, and nothing is told to the driver")
  func fixedCapacity() throws {
    let guest = try BlockGuest(NullStore(byteCount: 4096))
    #expect(throws: StoreError.fixedSize) {
      try guest.bench.host.update { (device) throws in try device.resize(toByteCount: 8192) }
    }
    #expect(guest.bench.notifications.take() == [])
  }

  @Test("5.2.4: each of several queues serves")
  func queues() throws {
    var options = BlockOptions()
    options.queueCount = 4
    let guest = try BlockGuest(RecordingStore(), options, accepting: Bit.all)
    for queue in 0..<4 { #expect(try guest.ask(Type.read, room: 512, queue: queue)?.status == Status.done) }
  }
}
