import GuestRAM
import Support
import Synchronization
import VirtioBlk

extension Harness<BlockDevice> {
  /// A disk of two queues and all features, on which requests of every kind follow each other.
  static var block: Self {
    Harness(testDescription: "block", make: makeBlock) { _, number, place in
      let room = GuestAddress(place.room)
      let (type, extra): (UInt32, RingFixture.Buffer?) =
        switch number % 6 {
        case 0: (0, .writable(place.pages, 4096))
        case 1: (1, .readable(place.pages, 4096))
        case 2: (4, nil)
        case 3: (8, .writable(place.room + 64, 20))
        case 4: (11, .readable(place.room + 16, 16))
        default: (13, .readable(place.room + 16, 16))
        }
      try place.memory.write(type, at: room)
      try place.memory.write(UInt32(0), at: GuestAddress(place.room + 4))
      try place.memory.write(number % 6 < 2 ? UInt64(number % 16) : 0, at: GuestAddress(place.room + 8))
      // One segment.
      try place.memory.write(UInt64(number % 32), at: GuestAddress(place.room + 16))
      try place.memory.write(UInt64(8), at: GuestAddress(place.room + 24))
      return [.readable(place.room, 16)] + (extra.map { [$0] } ?? []) + [.writable(place.room + 128, 1)]
    }
  }

  @Sendable
  private static func makeBlock() -> BlockDevice {
    var options = BlockOptions()
    options.queueCount = 2
    options.queueSize = 64
    options.sizeMax = 1 << 20
    return BlockDevice(SmallStore(), options)
  }
}

/// A small disk in an array.
private final class SmallStore: BlockStore {
  let byteCount: UInt64 = 1 << 16
  let isReadOnly = false
  let limits = BlockLimits()
  private let bytes = Mutex([UInt8](repeating: 0xB1, count: 1 << 16))

  func perform(_ operation: BlockOperation, _ data: inout BlockData, mayWait: Bool) throws(StoreError) -> Bool {
    let length = data.byteCount
    switch operation {
    case .read(let place):
      try data.store(bytes.withLock { Array($0[Int(place)..<Int(place) + length]) }, at: 0)
    case .write(let place):
      let new = try data.bytes(0..<length)
      bytes.withLock { $0.replaceSubrange(Int(place)..<Int(place) + length, with: new) }
    case .flush: break
    case .discard(let range), .writeZeroes(let range, _):
      bytes.withLock { bytes in for place in range { bytes[Int(place)] = 0 } }
    }
    return true
  }
}
