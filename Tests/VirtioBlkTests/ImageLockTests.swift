import Foundation
import LinuxIO
import Support
import Testing
import VirtioBlk
import VirtioCore

@Suite("Image locks") struct ImageLockTests {
  /// An image of 1 MiB in a directory of its own, removed with its value.
  private final class Image {
    let path: String

    init() throws {
      let directory = FileManager.default.temporaryDirectory.appendingPathComponent("image-\(UUID().uuidString)")
      try FileManager.default.createDirectory(at: directory, withIntermediateDirectories: true)
      path = directory.path + "/disk.raw"
      try Data(count: 1 << 20).write(to: URL(filePath: path))
    }

    deinit {
      try? FileManager.default.removeItem(atPath: (path as NSString).deletingLastPathComponent)
    }
  }

  private static let tool = "/usr/bin/qemu-io"
  private static var hasTool: Bool { FileManager.default.isExecutableFile(atPath: tool) }

  @Test("an image that is written is nobody else's, one that is read is every reader's")
  func stores() throws {
    let image = try Image()
    let writer = try FileStore(path: image.path)
    let other = try FileStore(path: image.path)
    let readers = try [FileStore(path: image.path, isReadOnly: true), FileStore(path: image.path, isReadOnly: true)]
    try writer.setExclusive(true)
    try writer.setExclusive(true)
    for store in [other] + readers { #expect(throws: StoreError.inUse) { try store.setExclusive(true) } }
    try writer.setExclusive(false)
    try writer.setExclusive(false)
    for reader in readers { try reader.setExclusive(true) }
    // Who was refused is in nobody's way.
    #expect(throws: StoreError.inUse) { try writer.setExclusive(true) }
    try readers[0].setExclusive(false)
    #expect(throws: StoreError.inUse) { try other.setExclusive(true) }
    try readers[1].setExclusive(false)
    try other.setExclusive(true)
  }

  @Test("a lock goes with its store")
  func gone() throws {
    let image = try Image()
    var writer: FileStore? = try FileStore(path: image.path)
    try writer?.setExclusive(true)
    let other = try FileStore(path: image.path)
    #expect(throws: StoreError.inUse) { try other.setExclusive(true) }
    writer = nil
    try other.setExclusive(true)
  }

  @Test("a device whose disk another has answers with errors until it is free")
  func device() throws {
    let image = try Image()
    let writer = try FileStore(path: image.path)
    try writer.setExclusive(true)
    let guest = try BlockGuest(FileStore(path: image.path))
    #expect(try guest.status(Type.read, room: 512) == Status.failed)
    #expect(try guest.status(Type.read, room: 512) == Status.failed)
    #expect(guest.reports.all == [.inUse])
    try writer.setExclusive(false)
    #expect(try guest.status(Type.read, room: 512) == Status.done)
    #expect(throws: StoreError.inUse) { try writer.setExclusive(true) }
  }

  @Test("a disk is not resized under whoever has the image, and is nobody's after a resize without a driver")
  func resize() throws {
    let image = try Image()
    let writer = try FileStore(path: image.path)
    let guest = try BlockGuest(FileStore(path: image.path))
    try guest.bench.host.writeStatus([])
    try writer.setExclusive(true)
    #expect(throws: StoreError.inUse) {
      try guest.bench.host.update { (device) throws(StoreError) in try device.resize(toByteCount: 2 << 20) }
    }
    #expect(guest.bench.host.device.store.byteCount == 1 << 20)
    #expect(try FileStore(path: image.path).byteCount == 1 << 20)
    try writer.setExclusive(false)
    try guest.bench.host.update { (device) throws(StoreError) in try device.resize(toByteCount: 2 << 20) }
    #expect(guest.bench.host.device.state.capacitySectors == 4096)
    try writer.setExclusive(true)
    #expect(writer.byteCount == 2 << 20)
  }

  @Test("a resize while a driver uses the disk leaves the image the device's own")
  func resizeInUse() throws {
    let image = try Image()
    let writer = try FileStore(path: image.path)
    let guest = try BlockGuest(FileStore(path: image.path))
    try guest.bench.host.update { (device) throws(StoreError) in try device.resize(toByteCount: 2 << 20) }
    #expect(throws: StoreError.inUse) { try writer.setExclusive(true) }
  }

  @Test("an image that somebody else made larger is as large here once it is this store's own, or looked at again")
  func grown() throws {
    let image = try Image()
    let (taken, refreshed) = try (FileStore(path: image.path), FileStore(path: image.path))
    try FileStore(path: image.path).resize(toByteCount: 2 << 20)
    #expect(taken.byteCount == 1 << 20)
    try taken.setExclusive(true)
    #expect(taken.byteCount == 2 << 20)
    try refreshed.refresh()
    #expect(refreshed.byteCount == 2 << 20)
    #expect(try StoreProbe(refreshed).read(512, at: 3 << 19) == [UInt8](repeating: 0, count: 512))
  }

  @Test("a disk that was resized where the guest was is taken over with the size that it has now")
  func adoptGrown() throws {
    let image = try Image()
    let guest = try BlockGuest(FileStore(path: image.path))
    try guest.bench.host.writeStatus([])
    var state = guest.bench.host.device.state
    state.capacitySectors = 4096
    try FileStore(path: image.path).resize(toByteCount: 2 << 20)
    try guest.bench.host.update { (device) throws in try device.adopt(state) }
    #expect(guest.bench.host.device.state == state)
    #expect(guest.bench.host.readConfig(at: 0, byteCount: 8) == [0, 16, 0, 0, 0, 0, 0, 0])
  }

  @Test(
    "a disk that goes on elsewhere is given up by the device that has let go of it, and taken by the one that is resumed"
  )
  func moved() throws {
    let image = try Image()
    let other = try FileStore(path: image.path)
    let guest = try BlockGuest(FileStore(path: image.path))
    guest.bench.host.pause()
    var snapshot = try guest.bench.save()
    #expect(throws: StoreError.inUse) { try other.setExclusive(true) }
    var there = try DeviceBench(BlockDevice(FileStore(path: image.path)))
    try there.host.attach(guest.bench.memory)
    try there.host.restore(from: &snapshot)
    try guest.bench.host.letGo()
    try other.setExclusive(true)
    try other.setExclusive(false)
    there.host.resume()
    #expect(there.host.device.trouble == nil)
    #expect(throws: StoreError.inUse) { try other.setExclusive(true) }
    // One that was called off is taken back.
    there.host.pause()
    try there.host.letGo()
    guest.bench.host.resume()
    #expect(throws: StoreError.inUse) { try other.setExclusive(true) }
    #expect(try guest.status(Type.read, room: 512) == Status.done)
  }

  @Test("5.2.5.1: a driver whose queues stood still while its disk grew is told of the capacity")
  func grownBetweenQueues() throws {
    let image = try Image()
    let guest = try BlockGuest(FileStore(path: image.path))
    let next = try guest.bench.host.stopQueue(0)
    try FileStore(path: image.path).resize(toByteCount: 2 << 20)
    guest.bench.notifications.all = []
    let generation = guest.bench.host.configGeneration
    try guest.bench.host.startQueue(0, guest.bench.rings[0].configuration(nextAvailable: next))
    #expect(guest.bench.notifications.take() == [.configuration])
    #expect(guest.bench.host.configGeneration != generation)
    #expect(try guest.status(Type.read, sector: 4095, room: 512) == Status.done)
  }

  @Test("QEMU's tools do not write an image that is in use here", .enabled(if: hasTool))
  func keepsToolsOut() throws {
    let image = try Image()
    let store = try FileStore(path: image.path)
    try store.setExclusive(true)
    #expect(try run(["-f", "raw", "-c", "write 0 512", image.path]).contains("lock"))
    // Its reader minds no writer, and is let in.
    #expect(try run(["-r", "-f", "raw", "-c", "read 0 512", image.path]).contains("read 512"))
    try store.setExclusive(false)
    #expect(try run(["-f", "raw", "-c", "write 0 512", image.path]).contains("wrote 512"))
    let reader = try FileStore(path: image.path, isReadOnly: true)
    try reader.setExclusive(true)
    #expect(try run(["-r", "-f", "raw", "-c", "read 0 512", image.path]).contains("read 512"))
    #expect(try run(["-f", "raw", "-c", "write 0 512", image.path]).contains("lock"))
  }

  @Test("an image that QEMU's tools may write is refused here", .enabled(if: hasTool))
  func isKeptOut() throws {
    let image = try Image()
    let input = try FileDescriptor.pipe()
    let output = try FileDescriptor.pipe()
    let process = try ChildProcess(
      Self.tool, ["-f", "raw", image.path],
      streams: .init(input: .descriptor(input.reading.rawValue), output: .descriptor(output.writing.rawValue)))
    _ = consume output.writing
    // It has opened the image once it has done something with it.
    try input.writing.writeAll(Array("read 0 512\n".utf8))
    var text = ""
    while !text.contains("read 512") {
      let bytes = try output.reading.readBytes(upTo: 4096)
      try #require(!bytes.isEmpty)
      text += String(decoding: bytes, as: UTF8.self)
    }
    let writer = try FileStore(path: image.path)
    let reader = try FileStore(path: image.path, isReadOnly: true)
    #expect(throws: StoreError.inUse) { try writer.setExclusive(true) }
    #expect(throws: StoreError.inUse) { try reader.setExclusive(true) }
    _ = consume input.writing
    process.waitUntilExit()
    try writer.setExclusive(true)
  }

  private func run(_ arguments: [String]) throws -> String {
    String(decoding: try ChildProcess.run(Self.tool, arguments).output, as: UTF8.self)
  }
}
