import GuestRAM
import VirtioBlk

extension BlockData {
  /// Data of `byteCount` bytes at the start of a guest's memory.
  static func at(_ memory: GuestMemory, byteCount: Int) -> BlockData {
    var data = BlockData()
    data.load([GuestBuffer(address: GuestAddress(0), byteCount: byteCount)], byteCount: byteCount, of: memory)
    return data
  }
}

/// A store, driven by arrays.
struct StoreProbe {
  let store: any BlockStore
  let memory: GuestMemory

  /// - Parameter mostByteCount: the longest transfer.
  init(_ store: any BlockStore, mostByteCount: UInt64 = 1 << 20) throws {
    self.store = store
    memory = try GuestMemory(byteCount: mostByteCount)
  }

  func read(_ byteCount: Int, at place: UInt64) throws -> [UInt8] {
    var data = BlockData.at(memory, byteCount: byteCount)
    _ = try store.perform(.read(at: place), &data, mayWait: true)
    return try data.bytes(0..<byteCount)
  }

  func write(_ bytes: [UInt8], at place: UInt64) throws {
    var data = BlockData.at(memory, byteCount: bytes.count)
    try data.store(bytes, at: 0)
    _ = try store.perform(.write(at: place), &data, mayWait: true)
  }

  func perform(_ operation: BlockOperation) throws {
    var data = BlockData()
    _ = try store.perform(operation, &data, mayWait: true)
  }
}
