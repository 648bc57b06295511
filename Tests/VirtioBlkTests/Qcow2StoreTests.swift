import LinuxIO
import Support
import Testing

@testable import VirtioBlk

@Suite("qcow2 images")
struct Qcow2StoreTests {
  private let scratch: Scratch
  private let path: String

  init() throws {
    scratch = try Scratch()
    path = scratch.file("a.qcow2")
  }

  private func image(_ byteCount: UInt64 = 4 << 20, _ options: Qcow2Options = Qcow2Options()) throws -> StoreProbe {
    try Qcow2Store.create(path: path, byteCount: byteCount, options: options)
    return try StoreProbe(Qcow2Store(path: path))
  }

  private func allocated() throws -> Int { try scratch.allocatedByteCount("a.qcow2") }

  @Test("A new image takes no space for its data, and its size is its backing file's if it is given none")
  func create() throws {
    let probe = try image(1 << 40)
    #expect(probe.store.byteCount == 1 << 40)
    #expect(try allocated() < 1 << 20)
    let overlay = scratch.file("b.qcow2")
    try Qcow2Store.create(path: overlay, backing: .init(path: "a.qcow2", format: .qcow2))
    #expect(try Qcow2Store(path: overlay, isReadOnly: true).byteCount == 1 << 40)
    #expect(throws: StoreError.self) { try Qcow2Store.create(path: path, byteCount: 512) }
    #expect(throws: StoreError.illegalSize(100)) { try Qcow2Store.create(path: scratch.file("c"), byteCount: 100) }
  }

  @Test("What is discarded gives its space back with the next flush")
  func discard() throws {
    let probe = try image()
    try probe.write([UInt8](repeating: 7, count: 1 << 20), at: 0)
    let full = try allocated()
    try probe.perform(.discard(0..<1 << 20))
    try probe.perform(.flush)
    #expect(try allocated() <= full - 1 << 20)
    #expect(try probe.read(4096, at: 65536) == [UInt8](repeating: 0, count: 4096))
  }

  @Test("An image does not grow when what was given back is written again")
  func reuse() throws {
    let probe = try image()
    for _ in 0..<20 {
      try probe.write([UInt8](repeating: 7, count: 1 << 20), at: 0)
      try probe.perform(.discard(0..<1 << 20))
      try probe.perform(.flush)
    }
    #expect(try scratch.bytes("a.qcow2").count < 8 << 20)
  }

  @Test("A store that may not wait gives way before it begins")
  func mayNotWait() throws {
    let store = try onDisk()
    let probe = try StoreProbe(store)
    var data = BlockData.at(probe.memory, byteCount: 4096)
    #expect(try store.perform(.write(at: 0), &data, mayWait: false) == false)
    #expect(try store.perform(.flush, &data, mayWait: false) == false)
    try probe.write([UInt8](repeating: 3, count: 4096), at: 0)
    #expect(try store.perform(.write(at: 0), &data, mayWait: false))
    #expect(try store.perform(.write(at: 1 << 20), &data, mayWait: false) == false)
  }

  /// An image that is not in memory, so that it may have to be waited for.
  private func onDisk() throws -> Qcow2Store {
    try Qcow2Store.create(path: path, byteCount: 4 << 20, backing: try rawBase())
    return try Qcow2Store(path: path)
  }

  private func rawBase() throws -> Qcow2BackingFile {
    try scratch.put([UInt8](repeating: 5, count: 3 << 20), "base.raw")
    return Qcow2BackingFile(path: "base.raw", format: .raw)
  }

  @Test("A larger disk reads as zeros where it was added, even on a longer backing file")
  func resize() throws {
    try Qcow2Store.create(path: path, byteCount: 1 << 20 - 512, backing: try rawBase())
    let store = try Qcow2Store(path: path)
    let probe = try StoreProbe(store)
    try store.resize(toByteCount: 8 << 30)
    let wanted = [UInt8](repeating: 5, count: 512) + [UInt8](repeating: 0, count: 1024)
    #expect(try probe.read(1536, at: 1 << 20 - 1024) == wanted)
    #expect(try probe.read(512, at: 2 << 20) == [UInt8](repeating: 0, count: 512))
    try probe.write([UInt8](repeating: 1, count: 512), at: 8 << 30 - 512)
    #expect(throws: StoreError.fixedSize) { try store.resize(toByteCount: 1 << 20) }
    #expect(throws: StoreError.illegalSize(1000)) { try store.resize(toByteCount: 1000) }
    #expect(try Qcow2Store(path: path, isReadOnly: true).byteCount == 8 << 30)
  }

  @Test("Two who want an image for themselves do not both get it, and what one wrote the next sees")
  func exclusive() throws {
    let probe = try image()
    let other = try StoreProbe(Qcow2Store(path: path))
    try probe.store.setExclusive(true)
    #expect(throws: StoreError.inUse) { try other.store.setExclusive(true) }
    try probe.write([UInt8](repeating: 9, count: 4096), at: 0)
    try probe.store.resize(toByteCount: 16 << 30)
    try probe.store.setExclusive(false)
    try other.store.setExclusive(true)
    #expect(other.store.byteCount == 16 << 30)
    #expect(try other.read(4096, at: 0) == [UInt8](repeating: 9, count: 4096))
    try other.write([UInt8](repeating: 8, count: 4096), at: 1 << 30)
    #expect(try other.read(4096, at: 1 << 30) == [UInt8](repeating: 8, count: 4096))
  }

  @Test("Who takes an image forgets what it had set aside before, and spares what another wrote in between")
  func stale() throws {
    var options = Qcow2Options()
    // So that a byte of refcounts is of clusters that both have set aside.
    options.refcountBitCount = 1
    let stale = try image(64 << 20, options)
    try stale.write([UInt8](repeating: 3, count: 4096), at: 0)
    let bytes = ModelStep.bytes(1 << 20, seed: 5)
    let other = try StoreProbe(Qcow2Store(path: path))
    try other.store.setExclusive(true)
    try other.write(bytes, at: 4 << 20)
    try other.store.setExclusive(false)
    try stale.store.setExclusive(true)
    for place in stride(from: UInt64(16 << 20), to: 24 << 20, by: 1 << 20) {
      try stale.write([UInt8](repeating: 8, count: 1 << 20), at: place)
    }
    #expect(try stale.read(1 << 20, at: 4 << 20) == bytes)
    try stale.store.setExclusive(false)
    if QemuTools.arePresent { try QemuTools.check(path, leaks: true) }
  }

  @Test("While an overlay is in use its backing file cannot be written, and can be read by other overlays")
  func sharedBacking() throws {
    try Qcow2Store.create(path: path, byteCount: 4 << 20)
    let names = ["b.qcow2", "c.qcow2"]
    let overlays = try names.map { (name) in
      try Qcow2Store.create(path: scratch.file(name), backing: .init(path: "a.qcow2", format: .qcow2))
      return try Qcow2Store(path: scratch.file(name))
    }
    for overlay in overlays { try overlay.setExclusive(true) }
    #expect(throws: StoreError.inUse) { try Qcow2Store(path: path).setExclusive(true) }
  }

  @Test("An image that stands on itself is refused, and so are too many that stand on each other")
  func chains() throws {
    try Qcow2Store.create(path: scratch.file("0"), byteCount: 1 << 20)
    for index in 1..<8 {
      try Qcow2Store.create(path: scratch.file("\(index)"), backing: .init(path: "\(index - 1)", format: .qcow2))
    }
    _ = try Qcow2Store(path: scratch.file("7"), isReadOnly: true)
    #expect(throws: StoreError.image(.backingDepth(limit: 8))) {
      try Qcow2Store.create(path: scratch.file("8"), backing: .init(path: "7", format: .qcow2))
    }
    let loop = try scratch.bytes("1").enumerated().map { $0 >= 120 && $0 < 4096 && $1 == 0x30 ? 0x31 : $1 }
    try scratch.put(loop, "1")
    #expect(throws: StoreError.image(.backingLoop(scratch.file("1")))) {
      try Qcow2Store(path: scratch.file("1"), isReadOnly: true)
    }
  }

  @Test("Clusters are described by more refcount tables as a file with small clusters grows")
  func growth() throws {
    var options = Qcow2Options()
    options.clusterByteCount = 512
    options.refcountBitCount = 64
    let probe = try image(8 << 20, options)
    // A table of one cluster describes 64 * 64 clusters of 512 bytes.
    let bytes = ModelStep.bytes(1 << 20, seed: 1)
    for place in stride(from: UInt64(0), to: 5 << 20, by: 1 << 20) { try probe.write(bytes, at: place) }
    for place in stride(from: UInt64(0), to: 5 << 20, by: 1 << 20) {
      #expect(try probe.read(1 << 20, at: place) == bytes)
    }
    try probe.store.setExclusive(false)
    try probe.write(bytes, at: 6 << 20)
    #expect(try probe.read(1 << 20, at: 0) == bytes)
    try probe.store.setExclusive(false)
    if QemuTools.arePresent { try QemuTools.check(path) }
  }

  @Test("A failed write leaves nothing behind, and the store goes on")
  func failure() throws {
    try Qcow2Store.create(path: path, byteCount: 4 << 20)
    for cut in 0..<12 {
      let failing = FailOnce(after: cut)
      let file = try ImageFile(path: path, isWritable: true) { (_) throws(StoreError) in try failing.count() }
      let probe = try StoreProbe(Qcow2Store(file, path: path, isReadOnly: false))
      let bytes = ModelStep.bytes(200_704, seed: UInt64(cut))
      try again { try probe.write(bytes, at: UInt64(cut) << 18 + 512) }
      #expect(try probe.read(bytes.count, at: UInt64(cut) << 18 + 512) == bytes)
      try again { try probe.store.setExclusive(false) }
      if QemuTools.arePresent { try QemuTools.check(path, leaks: true) }
    }
  }

  /// Does what may fail once.
  private func again(_ body: () throws -> Void) throws {
    do { try body() } catch StoreError.injected { try body() }
  }
}

@Suite("qcow2 images that QEMU and the store take turns in", .enabled(if: QemuTools.arePresent, QemuTools.missing))
struct Qcow2TurnsTests {
  private let scratch: Scratch
  private let path: String

  init() throws {
    scratch = try Scratch()
    path = scratch.file("a.qcow2")
  }

  @Test(
    "Writing to images of QEMU keeps them in order, whatever they have",
    arguments: ["snapshot", "compressed", "compressed=512", "bitmap", "preallocation", "v2"])
  func turns(_ kind: String) throws {
    var generator = SeededGenerator(for: "Qcow2TurnsTests.turns \(kind)")
    try make(kind)
    let snapshot = kind == "snapshot" ? try snapshotContents() : nil
    var model = try QemuTools.contents(path, in: scratch)
    do {
      let probe = try StoreProbe(Qcow2Store(path: path))
      for _ in 0..<40 {
        let step = ModelStep.random(diskByteCount: model.count, using: &generator)
        try step.apply(to: probe)
        try step.apply(to: &model) { try probe.read($0.count, at: UInt64($0.lowerBound)) }
      }
      try expectSame(probe.contents(), model)
      try probe.store.setExclusive(false)
    }
    // Nobody owns the clusters of a bitmap that is out of date.
    try QemuTools.check(path, leaks: kind == "bitmap")
    try expectSame(QemuTools.contents(path, in: scratch), model)
    if let snapshot { try expectSame(snapshotContents(), snapshot) }
  }

  private func make(_ kind: String) throws {
    var source = SeededBytes(seed: 3)
    try scratch.put(source.text(1 << 20) + source.noise(1 << 20), "a.raw")
    let options =
      switch kind {
      case "v2": "compat=0.10"
      case "compressed=512": "cluster_size=512"
      default: "cluster_size=4k"
      }
    let compression = kind.hasPrefix("compressed") ? ["-c"] : []
    try QemuTools.run(
      QemuTools.image,
      ["convert"] + compression + ["-f", "raw", "-O", "qcow2", "-o", options, scratch.file("a.raw"), path])
    switch kind {
    case "snapshot":
      try QemuTools.image("snapshot", "-c", "one", path)
      try QemuTools.io(path, "write -P 7 100k 300k")
    case "bitmap": try QemuTools.image("bitmap", "--add", path, "b")
    case "preallocation":
      try QemuTools.image("create", "-f", "qcow2", "-o", "preallocation=metadata", path, "2M")
      try QemuTools.io(path, "write -z 100k 200k", "write -P 7 1M 300k")
    default: break
    }
  }

  @Test("An image whose refcounts were put off is repaired before it is first written")
  func dirty() throws {
    try QemuTools.image("create", "-f", "qcow2", "-o", "lazy_refcounts=on,cluster_size=4k", path, "2M")
    // The command that follows the writes ends QEMU as a crash would.
    try QemuTools.run(
      QemuTools.io, ["-f", "qcow2", "-c", "write -P 5 0 300k", "-c", "sigraise 9", path], allowing: [.signal(9)])
    let bytes = try scratch.bytes("a.qcow2")
    try #require(bytes[79] & 1 == 1, "the image is not marked")
    let probe = try StoreProbe(Qcow2Store(path: path))
    try probe.write([UInt8](repeating: 6, count: 4096), at: 1 << 20)
    #expect(try probe.read(4096, at: 300 << 10 - 4096) == [UInt8](repeating: 5, count: 4096))
    try probe.store.setExclusive(false)
    #expect(try scratch.bytes("a.qcow2")[79] & 1 == 0)
    try QemuTools.check(path)
  }

  private func snapshotContents() throws -> [UInt8] {
    try QemuTools.image("convert", "-l", "snapshot.name=one", "-f", "qcow2", "-O", "raw", path, scratch.file("s.raw"))
    return try scratch.bytes("s.raw")
  }

  @Test("A larger disk is in order, and with internal snapshots no size is changed")
  func resize() throws {
    try make("plain")
    let store = try Qcow2Store(path: path)
    try store.resize(toByteCount: 40 << 30)
    try StoreProbe(store).write([1, 2], at: 0)
    try store.setExclusive(false)
    try QemuTools.check(path)
    try QemuTools.image("snapshot", "-c", "one", path)
    #expect(throws: StoreError.image(.snapshots)) { try Qcow2Store(path: path).resize(toByteCount: 50 << 30) }
  }
}

/// Refuses one change.
final class FailOnce: Sendable {
  private let countdown: Countdown
  private let rest: Countdown

  init(after count: Int) {
    countdown = Countdown(count)
    rest = Countdown(1)
  }

  func count() throws(StoreError) {
    do throws(StoreError) {
      try countdown.count()
    } catch {
      let isFirst: Bool
      do throws(StoreError) {
        try rest.count()
        isFirst = true
      } catch { isFirst = false }
      if isFirst { throw .injected }
    }
  }
}
