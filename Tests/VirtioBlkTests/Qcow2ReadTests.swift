import Testing

@testable import VirtioBlk

@Suite("qcow2 images made by QEMU", .enabled(if: QemuTools.arePresent, QemuTools.missing))
struct Qcow2ReadTests {
  private let scratch: Scratch

  init() throws { scratch = try Scratch() }

  /// Some data in a few places, some of it zeroed or discarded.
  private func scribble(_ path: String) throws {
    try QemuTools.io(
      path, "write -P 1 0 3k", "write -P 2 70k 200k", "write -P 3 1023k 513", "write -z 100k 40k", "discard 160k 64k",
      "write -P 4 3M 700k")
  }

  private func expectSame(_ path: String) throws {
    let store = try Qcow2Store(path: path, isReadOnly: true)
    let mine = try StoreProbe(store).contents()
    let theirs = try QemuTools.contents(path, in: scratch)
    #expect(mine.count == theirs.count)
    #expect(
      mine == theirs, "first difference at \(zip(mine, theirs).enumerated().first { $1.0 != $1.1 }?.offset ?? -1)")
  }

  @Test(
    "Images of every version, cluster size and width of refcounts read as QEMU reads them",
    arguments: [
      "compat=0.10", "compat=1.1", "cluster_size=512", "cluster_size=512,compat=0.10", "cluster_size=2M",
      "cluster_size=4k,refcount_bits=1", "refcount_bits=64", "preallocation=metadata", "lazy_refcounts=on",
    ])
  func options(_ options: String) throws {
    let path = scratch.file("a.qcow2")
    try QemuTools.image("create", "-f", "qcow2", "-o", options, path, "5M")
    try scribble(path)
    try expectSame(path)
  }

  @Test("Compressed clusters are expanded", arguments: ["512", "4k", "64k", "2M"])
  func compressed(_ clusterSize: String) throws {
    var generator = SeededBytes(seed: 7)
    try scratch.put(generator.text(3 << 20) + generator.noise(1 << 18) + generator.text(1 << 18), "a.raw")
    let path = scratch.file("a.qcow2")
    try QemuTools.image(
      "convert", "-c", "-f", "raw", "-O", "qcow2", "-o", "cluster_size=\(clusterSize)", scratch.file("a.raw"), path)
    let store = try Qcow2Store(path: path, isReadOnly: true)
    #expect(try StoreProbe(store).contents() == scratch.bytes("a.raw"))
  }

  @Test("What an image does not have is read from the image it stands on", arguments: ["raw", "qcow2"])
  func backing(_ format: String) throws {
    let base = scratch.file("base")
    try QemuTools.image("create", "-f", format, base, "4M")
    try QemuTools.run(QemuTools.io, ["-f", format, "-c", "write -P 9 0 4M", base])
    let path = scratch.file("a.qcow2")
    try QemuTools.image("create", "-f", "qcow2", "-b", "base", "-F", format, path, "5M")
    try scribble(path)
    try expectSame(path)
  }

  @Test("An internal snapshot does not change what is read")
  func snapshot() throws {
    let path = scratch.file("a.qcow2")
    try QemuTools.image("create", "-f", "qcow2", path, "5M")
    try scribble(path)
    try QemuTools.image("snapshot", "-c", "one", path)
    try QemuTools.io(path, "write -P 7 0 100k")
    try expectSame(path)
  }

  @Test(
    "What is not provided is refused by name",
    arguments: [
      ("extended_l2=on", Qcow2Feature.extendedL2), ("compression_type=zstd", .compression(1)),
      ("data_file=data.raw", .externalDataFile),
    ])
  func refused(_ options: String, _ feature: Qcow2Feature) throws {
    let path = scratch.file("a.qcow2")
    let option = options.hasPrefix("data_file") ? "data_file=\(scratch.file("data.raw"))" : options
    try QemuTools.image("create", "-f", "qcow2", "-o", option, path, "5M")
    #expect(throws: StoreError.image(.feature(feature))) { try Qcow2Store(path: path, isReadOnly: true) }
  }
}

/// Bytes that compress well or not at all.
struct SeededBytes {
  private var state: UInt64

  init(seed: UInt64) { state = seed }

  mutating func next() -> UInt64 {
    state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
    return state >> 33
  }

  mutating func noise(_ count: Int) -> [UInt8] { (0..<count).map { _ in UInt8(truncatingIfNeeded: next()) } }

  mutating func text(_ count: Int) -> [UInt8] {
    let words = ["ring ", "queue ", "driver ", "device ", "cluster ", "guest ", "table "].map { Array($0.utf8) }
    var bytes: [UInt8] = []
    while bytes.count < count { bytes += words[Int(next() % 7)] }
    return Array(bytes.prefix(count))
  }
}
