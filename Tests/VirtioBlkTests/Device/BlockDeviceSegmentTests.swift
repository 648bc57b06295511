import Support
import Testing
import VirtioBlk
import VirtioCore

@Suite("5.2.6 Block device: discards and writes of zeros") struct BlockDeviceSegmentTests {
  /// What a segment may have at most, from the configuration space.
  private static let mostSegments = 16
  private static let mostSectors: UInt32 = 1 << 22

  @Test("5.2.6: a discard reaches the medium, whatever its segments, in their order")
  func discard() throws {
    let store = RecordingStore()
    let guest = try BlockGuest(store)
    let segments = BlockGuest.segment(8, 8) + BlockGuest.segment(0, 1) + BlockGuest.segment(63, 1)
    #expect(try guest.ask(Type.discard, segments) == Answer(status: 0, usedByteCount: 1))
    #expect(store.takeLog() == [.discard(4096..<8192), .discard(0..<512), .discard(32256..<32768)])
  }

  @Test("5.2.6: a write of zeros reads as zeros, and unmap is a permission")
  func writeZeroes() throws {
    let store = RecordingStore()
    let guest = try BlockGuest(store)
    let segments = BlockGuest.segment(2, 2) + BlockGuest.segment(4, 1, flags: 1)
    #expect(try guest.ask(Type.writeZeroes, segments) == Answer(status: 0, usedByteCount: 1))
    #expect(
      store.takeLog() == [.writeZeroes(1024..<2048, mayUnmap: false), .writeZeroes(2048..<2560, mayUnmap: true)])
    #expect(try guest.ask(Type.read, sector: 2, room: 1536)?.data == [UInt8](repeating: 0, count: 1536))
  }

  @Test("5.2.6.2: a discard with the unmap flag is not supported")
  func unmap() throws {
    let store = RecordingStore()
    let guest = try BlockGuest(store)
    #expect(try guest.status(Type.discard, BlockGuest.segment(0, 1, flags: 1)) == Status.unsupported)
    #expect(store.takeLog() == [])
  }

  @Test("5.2.6.2: a flag that nobody knows is not supported, in any segment", arguments: [11, 13] as [UInt32])
  func unknownFlags(type: UInt32) throws {
    let store = RecordingStore()
    let guest = try BlockGuest(store)
    for flag in 1..<32 {
      for isFirst in [true, false] {
        let bad = BlockGuest.segment(0, 1, flags: 1 << UInt32(flag))
        let good = BlockGuest.segment(8, 1)
        #expect(try guest.status(type, isFirst ? bad + good : good + bad) == Status.unsupported)
      }
    }
    #expect(store.takeLog() == [])
  }

  @Test("5.2.6: data that is no multiple of 16 bytes, or none, is an error", arguments: [11, 13] as [UInt32])
  func lengths(type: UInt32) throws {
    let store = RecordingStore()
    let guest = try BlockGuest(store)
    let segments = BlockGuest.segment(0, 1) + BlockGuest.segment(1, 1)
    for length in 0...32 {
      let isWhole = length == 16 || length == 32
      #expect(try guest.status(type, Array(segments.prefix(length))) == (isWhole ? Status.done : Status.failed))
    }
  }

  @Test("5.2.6: more segments than the device offers are not supported", arguments: [11, 13] as [UInt32])
  func tooMany(type: UInt32) throws {
    let guest = try BlockGuest(RecordingStore())
    let most = [UInt8]((0..<UInt64(Self.mostSegments)).flatMap { BlockGuest.segment($0, 1) })
    #expect(try guest.status(type, most) == Status.done)
    #expect(try guest.status(type, most + BlockGuest.segment(0, 1)) == Status.unsupported)
  }

  @Test(
    "5.2.6: a segment beyond the end, or longer than the device offers, is an error, and no other is carried out",
    arguments: [11, 13] as [UInt32])
  func bounds(type: UInt32) throws {
    let store = RecordingStore()
    let guest = try BlockGuest(store)
    let good = BlockGuest.segment(0, 1)
    for (sector, count): (UInt64, UInt32) in [
      (64, 1), (63, 2), (0, 65), (.max, 1), (1 << 55, 1), (.max / 512, 4), (65, 0), (0, .max),
      (0, Self.mostSectors + 1),
    ] {
      #expect(try guest.status(type, good + BlockGuest.segment(sector, count)) == Status.failed)
      #expect(try guest.status(type, BlockGuest.segment(sector, count) + good) == Status.failed)
    }
    #expect(store.takeLog() == [])
    #expect(guest.reports.all == [])
    #expect(try guest.status(type, BlockGuest.segment(0, 64)) == Status.done)
  }

  @Test("a segment as long as the device offers is taken, and one sector more is not")
  func longest() throws {
    let guest = try BlockGuest(NullStore(byteCount: 1 << 40))
    for type in [Type.discard, Type.writeZeroes] {
      #expect(try guest.status(type, BlockGuest.segment(9, Self.mostSectors)) == Status.done)
      #expect(try guest.status(type, BlockGuest.segment(9, Self.mostSectors + 1)) == Status.failed)
    }
  }

  @Test(
    "a segment of no sectors does nothing, on a medium that cannot do nothing too", arguments: [11, 13] as [UInt32])
  func empty(type: UInt32) throws {
    let store = RecordingStore()
    let guest = try BlockGuest(store)
    #expect(try guest.status(type, BlockGuest.segment(64, 0)) == Status.done)
    #expect(store.takeLog() == [])
    let other = try BlockGuest(FileStore(inMemory: 32768), accepting: ~Bit.flush & ~Bit.configurableWriteback)
    #expect(try other.status(type, BlockGuest.segment(0, 0)) == Status.done)
    #expect(try other.status(type, BlockGuest.segment(0, 0) + BlockGuest.segment(1, 1)) == Status.done)
    #expect(other.reports.all == [])
  }

  @Test(
    "5.2.6.2: without its feature a request is not supported",
    arguments: [(11, Bit.discard), (13, Bit.writeZeroes)] as [(UInt32, UInt64)])
  func notNegotiated(type: UInt32, feature: UInt64) throws {
    let store = RecordingStore()
    let guest = try BlockGuest(store, accepting: Bit.all & ~feature)
    #expect(try guest.status(type, BlockGuest.segment(0, 1)) == Status.unsupported)
    #expect(try guest.status(type, []) == Status.unsupported)
    #expect(store.takeLog() == [])
  }

  @Test("5.2.3: what a store or an operator does not want is not offered")
  func offers() throws {
    var limits = BlockLimits()
    limits.canDiscard = false
    let plain = try BlockGuest(RecordingStore(limits: limits))
    #expect(plain.bench.host.offeredFeatures.low & (Bit.discard | Bit.writeZeroes) == Bit.writeZeroes)
    var options = BlockOptions()
    options.discard = false
    options.writeZeroes = false
    let bare = try BlockGuest(RecordingStore(), options)
    #expect(bare.bench.host.offeredFeatures.low & (Bit.discard | Bit.writeZeroes) == 0)
  }
}
