import GuestRAM
import LinuxIO
import Migration
import Support
import Synchronization
import VirtioBlk
import VirtioCore

/// A disk's device, and one request at a time to it.
final class DrivenDisk {
  let memory: GuestMemory
  let device: DeviceThread<BlockDevice>
  private var ring: RingFixture

  init(_ store: any BlockStore, memory: GuestMemory) throws {
    self.memory = memory
    ring = try RingFixture(size: 16, memory: memory)
    device = try DeviceThread(name: "block") { (_, wake) throws(LinuxError) in
      let workers = try BlockWorkers(store, onCompletion: wake)
      return DeviceHost(BlockDevice(store, workers: workers)) { _ in }
    }
    try device.attach(memory, within: patience)
    let configuration = try ring.configuration()
    let failure = try device.call { (host) in
      Result { () throws(HostError) in
        try host.acceptFeatures([.version1])
        try host.startQueue(0, configuration)
      }
    }
    try failure?.get()
  }

  /// Begins to read from the disk's start.
  func read(byteCount: Int) throws {
    let header = ring.heap.rawValue
    try memory.write(bytes: [UInt8](repeating: 0, count: 16), at: ring.heap)
    try ring.send([
      .readable(header, 16), .writable(PinnedDisk.data.rawValue, UInt32(byteCount)), .writable(header + 16, 1),
    ])
    device.kick(0)
  }

  func hasAnswer() throws -> Bool { try ring.publishedUsedIndex != ring.usedIndex }

  func takeAnswer() throws { _ = try ring.takeAllUsed() }
}

/// A disk whose reads reach memory by pages that were pinned, and are held until the test lets them go.
final class PinnedDisk {
  /// Where what is read goes.
  static let data = GuestAddress(1 << 21)

  let memory: GuestMemory
  let store: PinnedStore
  private let disk: DrivenDisk

  var device: DeviceThread<BlockDevice> { disk.device }

  init() throws {
    let file = try MemoryFile.create(name: "guest", byteCount: 4 << 20)
    let alias = try GuestMemory(
      regions: [MemoryRegion(file: file.duplicate(), byteCount: 4 << 20, start: GuestAddress(0))])
    memory = try GuestMemory(regions: [MemoryRegion(file: file, byteCount: 4 << 20, start: GuestAddress(0))])
    store = try PinnedStore(alias)
    disk = try DrivenDisk(store, memory: memory)
  }

  /// Returns once the read has pinned its page.
  func beginRead() throws {
    try disk.read(byteCount: 4096)
    _ = store.begun.wait()
  }
}

/// A store that does what the kernel does in a read past the page cache: it pins the pages, which is seen as a write, and has
/// the disk store into them later by another way than the guest's page table, as another mapping is one.
final class PinnedStore: BlockStore {
  static let bytes = (0..<4096).map { UInt8(truncatingIfNeeded: $0 &* 7 &+ 1) }

  let begun: Handover<Bool>
  private let mayFinish: Handover<Bool>
  private let alias: GuestMemory

  init(_ alias: GuestMemory) throws(LinuxError) {
    self.alias = alias
    (begun, mayFinish) = (try Handover(), try Handover())
  }

  func finish() { mayFinish.put(true) }

  var byteCount: UInt64 { 1 << 20 }
  var isReadOnly: Bool { true }
  var limits: BlockLimits { BlockLimits() }

  func perform(_ operation: BlockOperation, _ data: inout BlockData, mayWait: Bool) throws(StoreError) -> Bool {
    guard mayWait else { return false }
    let count = data.byteCount
    _ = try data.fill(0..<count) { (vectors) throws(StoreError) in
      _ = vectors.zero()
      begun.put(true)
      _ = mayFinish.wait()
      do throws(GuestMemoryError) { try alias.write(bytes: Self.bytes, at: PinnedDisk.data) } catch {
        throw .memory(error)
      }
      return count
    }
    return true
  }
}

/// A guest that does nothing but wait for its disk, which answers once the guest is to be stopped.
struct PinnedGuest: LiveGuest, ~Copyable {
  private let disk: PinnedDisk
  private let isNoted: Bool
  private var writes: GuestWrites?

  init(_ disk: PinnedDisk, isNoted: Bool) {
    self.disk = disk
    self.isNoted = isNoted
  }

  var memory: GuestMemory { disk.memory }

  mutating func beginTracking() throws(MigrationError) {
    let writes = try GuestWrites(memory)
    do {
      if isNoted { try disk.device.attach(writes.deviceMemory, within: patience) }
      try disk.beginRead()
    } catch {
      throw .guest("\(error)")
    }
    self.writes = consume writes
  }

  mutating func takeWrites() throws(MigrationError) -> [GuestRange] { try writes?.take() ?? [] }

  mutating func endTracking() { writes.take()?.end() }

  mutating func pause() throws(MigrationError) -> [UInt8] {
    disk.store.finish()
    do throws(HostError) { try disk.device.pause(within: patience) } catch { throw .guest("\(error)") }
    return []
  }

  mutating func resume() {}
}
