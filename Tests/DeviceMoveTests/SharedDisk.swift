import Foundation
import SimulatedGuest
import Synchronization
import VirtioBlk

/// A disk that two machines share, each of which keeps what it has written to itself until it is asked to flush, and what it
/// has read for as long as it has the disk to itself.
final class SharedDisk: Sendable {
  private struct State {
    var blocks: [UInt64: [UInt8]] = [:]
    var owner: ObjectIdentifier?
    var faults: [String] = []
    var operationCount: UInt64 = 0
    var ownersFlushCount: UInt64 = 0
  }

  let byteCount: UInt64
  private let state = Mutex(State())

  init(byteCount: UInt64) {
    self.byteCount = byteCount
  }

  /// What is on the medium.
  func block(at place: UInt64) -> [UInt8] {
    state.withLock { $0.blocks[place] ?? [UInt8](repeating: 0, count: 4096) }
  }

  /// What the machines have done that machines which share a disk must not.
  var faults: [String] { state.withLock { $0.faults } }

  /// How many reads, writes and flushes there were.
  var operationCount: UInt64 { state.withLock { $0.operationCount } }

  /// How many of them an owner did before it gave the disk up, which nobody has asked for.
  var ownersFlushCount: UInt64 { state.withLock { $0.ownersFlushCount } }

  fileprivate func count(_ machine: CachingStore) {
    state.withLock { state in
      state.operationCount += 1
      if state.owner != ObjectIdentifier(machine) { state.faults.append("it was used without being owned") }
    }
  }

  fileprivate func put(_ blocks: [UInt64: [UInt8]]) {
    state.withLock { $0.blocks.merge(blocks) { $1 } }
  }

  fileprivate func own(_ machine: CachingStore, _ isOwned: Bool) {
    state.withLock { state in
      if isOwned {
        if state.owner != nil { state.faults.append("it was taken from its owner") }
        state.owner = ObjectIdentifier(machine)
      } else if state.owner == ObjectIdentifier(machine) {
        state.owner = nil
        // A device flushes before it lets go.
        state.ownersFlushCount += 1
      }
    }
  }
}

/// One machine's view of a shared disk.
final class CachingStore: BlockStore {
  private let disk: SharedDisk
  /// What is written and not flushed, and what was read.
  private let cache = Mutex<(written: [UInt64: [UInt8]], read: [UInt64: [UInt8]])>(([:], [:]))

  init(_ disk: SharedDisk) {
    self.disk = disk
  }

  var byteCount: UInt64 { disk.byteCount }
  var isReadOnly: Bool { false }
  var limits: BlockLimits { BlockLimits() }

  func setExclusive(_ isExclusive: Bool) throws(StoreError) {
    // What was read before somebody else had the disk says nothing.
    cache.withLock { $0.read = [:] }
    disk.own(self, isExclusive)
  }

  func perform(_ operation: VirtioBlk.BlockOperation, _ data: inout BlockData, mayWait: Bool) throws(StoreError) -> Bool
  {
    // Every other request has to wait.
    guard mayWait || disk.operationCount % 2 == 0 else { return false }
    disk.count(self)
    switch operation {
    case .read(let place):
      let bytes = cache.withLock { cache in
        let bytes = cache.written[place] ?? cache.read[place] ?? disk.block(at: place)
        cache.read[place] = bytes
        return bytes
      }
      try data.store(bytes, at: 0)
    case .write(let place):
      let bytes = try data.bytes(0..<data.byteCount)
      cache.withLock { $0.written[place] = bytes }
    case .flush:
      cache.withLock { cache in
        disk.put(cache.written)
        cache.read.merge(cache.written) { $1 }
        cache.written = [:]
      }
    case .discard, .writeZeroes: throw .unsupported
    }
    return true
  }
}

/// A directory of its own, removed with its value.
final class TemporaryDirectory: Sendable {
  let path: String

  init() throws {
    let directory = FileManager.default.temporaryDirectory.appendingPathComponent("move-\(UUID().uuidString)")
    try FileManager.default.createDirectory(at: directory, withIntermediateDirectories: true)
    path = directory.path
  }

  deinit {
    try? FileManager.default.removeItem(atPath: path)
  }
}
