import Foundation
import GuestRAM
import LinuxIO
import Migration
import Support
import Testing
import VirtioBlk
import VirtioCore

/// The trap of transfers past the page cache: the kernel sees them where their pages are pinned, and not when the disk
/// stores into them.
@Suite("Transfers that are in flight while a guest is moved") struct PinnedTransferTests {
  private static let hasTracking: Bool = !WriteTracker.available.isEmpty

  @Test(
    "what a transfer stores after its pages were collected is found since its device notes it, and only therefore",
    .enabled(if: hasTracking), arguments: [true, false])
  func collected(isNoted: Bool) throws {
    let disk = try PinnedDisk()
    let writes = try GuestWrites(disk.memory)
    if isNoted { try disk.device.attach(writes.deviceMemory, within: patience) }
    try disk.beginRead()
    #expect(try writes.take().contains { $0.contains(PinnedDisk.data) }, "to pin a page is to write it")
    #expect(try !writes.take().contains { $0.contains(PinnedDisk.data) })
    disk.store.finish()
    try disk.device.pause(within: patience)
    #expect(try disk.memory.readBytes(4096, at: PinnedDisk.data) == PinnedStore.bytes)
    #expect(try writes.take().contains { $0.contains(PinnedDisk.data) } == isNoted)
    writes.end()
    disk.device.stop()
  }

  @Test(
    "a guest arrives with what was read into pages that had been sent already, since its devices note it, and only therefore",
    .enabled(if: hasTracking), arguments: [true, false])
  func moved(isNoted: Bool) throws {
    let disk = try PinnedDisk()
    let directory = try TemporaryDirectory()
    let address = MigrationAddress.unix(path: directory.path + "/move")
    let listener = try MigrationListener(address)
    let arrived = try Handover<[UInt8]?>()
    let receiving: @Sendable () -> Void = { arrived.put(try? Self.receive(from: listener)) }
    let receiver = try Thread(name: "destination", receiving)
    var guest = PinnedGuest(disk, isNoted: isNoted)
    var policy = MigrationPolicy(downtimeLimit: .nanoseconds(1), stopsAnyway: true, verifies: false)
    policy.mostPasses = 3
    let link = try MigrationLink.connect(to: address, within: patience)
    let report = try Source(link, producer: "A", timeLimit: patience).move(&guest, policy: policy)
    receiver.join()
    #expect(report.passes.count >= 2, "the page was sent while the transfer was under way")
    let bytes = arrived.wait()
    #expect(bytes == (isNoted ? PinnedStore.bytes : [UInt8](repeating: 0, count: 4096)))
    disk.device.stop()
  }

  private static func receive(from listener: MigrationListener) throws -> [UInt8] {
    let link = try listener.accept(within: patience)
    var destination = Destination(link, producer: "B", limits: DestinationLimits(mostMemory: 16 << 20, time: patience))
    let guest = try destination.receive()
    _ = try destination.confirm()
    return try guest.memory.readBytes(4096, at: PinnedDisk.data)
  }

  @Test(
    "reads past the page cache of a real disk, of which some end after their pages were sent, arrive",
    .enabled(if: hasTracking))
  func realDisk() throws {
    let directory = try TemporaryDirectory()
    let path = directory.path + "/disk.raw"
    let byteCount = 1 << 20
    let image = (0..<byteCount).map { UInt8(truncatingIfNeeded: $0 >> 9 &* 7 &+ 1) }
    try Data(image).write(to: URL(filePath: path))
    // Where a file system has no such reads, these are like all others.
    let store = try (try? FileStore(path: path, unbuffered: true)) ?? FileStore(path: path)
    let disk = try DrivenDisk(store, memory: GuestMemory(byteCount: 4 << 20))
    let writes = try GuestWrites(disk.memory)
    try disk.device.attach(writes.deviceMemory, within: patience)
    let copy = try GuestMemory(byteCount: 4 << 20)
    func send(_ writes: borrowing GuestWrites) throws {
      for range in try writes.take() { try disk.memory.copy(range, to: copy, at: range.start) }
    }
    for _ in 0..<20 {
      try disk.memory.write(bytes: [UInt8](repeating: 0, count: byteCount), at: PinnedDisk.data)
      try disk.read(byteCount: byteCount)
      while try !disk.hasAnswer() { try send(writes) }
      try disk.device.pause(within: patience)
      try send(writes)
      #expect(try copy.readBytes(byteCount, at: PinnedDisk.data) == image)
      try disk.device.resume()
      try disk.takeAnswer()
    }
    writes.end()
    disk.device.stop()
  }
}

extension GuestRange {
  fileprivate func contains(_ address: GuestAddress) -> Bool {
    address >= start && address.rawValue - start.rawValue < byteCount
  }
}
