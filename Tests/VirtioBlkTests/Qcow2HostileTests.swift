import Support
import Testing

@testable import VirtioBlk

/// Images that were made to do harm: every one is refused or answered with an error, and none is written beyond.
@Suite("qcow2 images that cannot be")
struct Qcow2HostileTests {
  private let scratch: Scratch
  private let path: String
  /// An image with data in its first clusters; its tables are where a new image has them.
  private let good: [UInt8]

  private static let clusterByteCount = 4096
  private static let table = 1 * clusterByteCount
  private static let block = 2 * clusterByteCount
  private static let l1 = 3 * clusterByteCount

  init() throws {
    scratch = try Scratch()
    path = scratch.file("a.qcow2")
    var options = Qcow2Options()
    options.clusterByteCount = Self.clusterByteCount
    try Qcow2Store.create(path: path, byteCount: 4 << 20, options: options)
    let probe = try StoreProbe(Qcow2Store(path: path))
    try probe.write(ModelStep.bytes(100_000, seed: 1), at: 0)
    try probe.store.setExclusive(false)
    good = try scratch.bytes("a.qcow2")
  }

  private func open(_ bytes: [UInt8]) throws -> Qcow2Store {
    try scratch.put(bytes, "a.qcow2")
    return try Qcow2Store(path: path)
  }

  private func with<T: FixedWidthInteger & UnsignedInteger>(_ value: T, at offset: Int) -> [UInt8] {
    var bytes = good
    bytes.setBigEndian(value, at: offset)
    return bytes
  }

  @Test("Each field of the header is checked")
  func header() throws {
    let cases: [([UInt8], Qcow2Error)] = [
      (with(UInt32(1), at: 0), .notQcow2),
      (with(UInt32(4), at: 4), .version(4)),
      (with(UInt64.max, at: 8), .header(.backingFileOffset, value: .max)),
      (with(UInt64(8), at: 8), .header(.backingFileOffset, value: 8)),
      (with(UInt64(4095), at: 8), .header(.backingFileSize, value: 0)),
      (with(UInt32(8), at: 20), .header(.clusterBits, value: 8)),
      (with(UInt32(22), at: 20), .header(.clusterBits, value: 22)),
      (with(UInt32.max, at: 20), .header(.clusterBits, value: UInt64(UInt32.max))),
      (with(UInt64.max, at: 24), .header(.size, value: .max)),
      (with(UInt32(2), at: 32), .feature(.encryption(2))),
      (with(UInt32.max, at: 36), .header(.l1TableOffset, value: UInt64(Self.l1))),
      (with(UInt64(0), at: 40), .header(.l1TableOffset, value: 0)),
      (with(UInt64(4097), at: 40), .header(.l1TableOffset, value: 4097)),
      (with(UInt64.max & ~4095, at: 40), .header(.l1TableOffset, value: .max & ~4095)),
      (with(UInt64(4096), at: 40), .header(.refcountTableOffset, value: 4096)),
      (with(UInt64(1 << 40), at: 48), .header(.refcountTableOffset, value: 1 << 40)),
      (with(UInt32(0), at: 56), .header(.refcountTableClusters, value: 0)),
      (with(UInt32.max, at: 56), .header(.refcountTableClusters, value: UInt64(UInt32.max))),
      (with(UInt32.max, at: 60), .header(.snapshotCount, value: UInt64(UInt32.max))),
      (with(UInt32(1), at: 60), .header(.snapshotsOffset, value: 0)),
      (with(UInt64(2), at: 72), .markedCorrupt),
      (with(UInt64(4), at: 72), .feature(.externalDataFile)),
      (with(UInt64(8), at: 72), .feature(.compression(0))),
      (with(UInt64(16), at: 72), .feature(.extendedL2)),
      (with(1 << 63 as UInt64, at: 72), .feature(.unknown(1 << 63))),
      (with(UInt32(7), at: 96), .header(.refcountOrder, value: 7)),
      (with(UInt32(72), at: 100), .header(.headerLength, value: 72)),
      (with(UInt32(105), at: 100), .header(.headerLength, value: 105)),
      (with(UInt32.max, at: 100), .header(.headerLength, value: UInt64(UInt32.max))),
      (with(UInt64(0xE279_2ACA_FFFF_FFFF), at: 104), .header(.extensionLength, value: UInt64(UInt32.max))),
    ]
    for (bytes, error) in cases {
      #expect(throws: StoreError.image(error)) { try open(bytes) }
    }
  }

  @Test("A file that is too short for a header, or for its tables, is refused", arguments: [0, 3, 71, 103, 4096, 9000])
  func short(_ byteCount: Int) {
    #expect(throws: StoreError.self) { try open(Array(good.prefix(byteCount))) }
  }

  @Test(
    "A wrong entry of an L1 or L2 table fails the request that meets it, and from then on nothing is written",
    arguments: [1, 1 << 40, 1 << 55, 1 << 63, 1 << 57 | 0x4000, .max, 1 << 62 | 0xFFFF_FFFF] as [UInt64])
  func entries(_ value: UInt64) throws {
    let l2 = Int(good.bigEndian(at: Self.l1, as: UInt64.self) & Qcow2Layout.offsetMask)
    for place in [Self.l1, l2] {
      // In an L2 table that is the entry of a cluster of zeros.
      if place == l2, value == 1 { continue }
      let probe = try StoreProbe(try open(with(value, at: place)))
      #expect(throws: StoreError.self) { try probe.read(512, at: 0) }
      #expect(probe.store.isReadOnly)
      #expect(throws: StoreError.self) { try probe.write([1], at: 1 << 20) }
    }
  }

  @Test("Data that lies over a table is not written", arguments: [0, 1, 2, 3])
  func overlap(_ cluster: UInt64) throws {
    let l2 = Int(good.bigEndian(at: Self.l1, as: UInt64.self) & Qcow2Layout.offsetMask)
    let bytes = with(cluster << 12 | 1 << 63, at: l2)
    let probe = try StoreProbe(try open(bytes))
    #expect(throws: StoreError.self) { try probe.write(ModelStep.bytes(4096, seed: 2), at: 0) }
    #expect(try scratch.bytes("a.qcow2") == bytes)
    #expect(probe.store.isReadOnly)
  }

  @Test("Tables that count as free are not overwritten")
  func refcounts() throws {
    var bytes = good
    for index in Self.block..<Self.block + Self.clusterByteCount { bytes[index] = 0 }
    let probe = try StoreProbe(try open(bytes))
    #expect(throws: StoreError.image(.corrupt(.refcount(0)))) { try probe.write([1], at: 3 << 20) }
    #expect(try scratch.bytes("a.qcow2") == bytes)
  }

  @Test("Compressed data that is none is told to be corrupt")
  func compressed() throws {
    let l2 = Int(good.bigEndian(at: Self.l1, as: UInt64.self) & Qcow2Layout.offsetMask)
    let probe = try StoreProbe(try open(with(UInt64(0x5001) | 1 << 62, at: l2)))
    #expect(throws: StoreError.image(.corrupt(.compressedData(0x5001)))) { try probe.read(512, at: 0) }
  }

  @Test("Whatever bytes are changed, nothing traps and nothing hangs")
  func fuzz() throws {
    var generator = SeededGenerator(for: "Qcow2HostileTests.fuzz")
    // Metadata is where it matters.
    let metadata = [0..<128, Self.table..<Self.table + 16, Self.block..<Self.block + 128, Self.l1..<Self.l1 + 24]
    let l2 = Int(good.bigEndian(at: Self.l1, as: UInt64.self) & Qcow2Layout.offsetMask)
    for _ in 0..<150 {
      var bytes = good
      for _ in 0..<Int.random(in: 1...4, using: &generator) {
        let area = (metadata + [l2..<l2 + 256]).randomElement(using: &generator) ?? 0..<1
        bytes[Int.random(in: area, using: &generator)] = UInt8(truncatingIfNeeded: generator.next())
      }
      guard let store = try? open(bytes) else { continue }
      let probe = try StoreProbe(store)
      let most = Int(min(store.byteCount, 4 << 20))
      guard most >= 512 else { continue }
      for _ in 0..<6 {
        try? ModelStep.random(diskByteCount: most, using: &generator).apply(to: probe)
        _ = try? probe.read(512, at: UInt64(Int.random(in: 0..<most / 512, using: &generator) * 512))
      }
      try? store.resize(toByteCount: 64 << 20)
      try? store.setExclusive(true)
      try? store.setExclusive(false)
    }
    for _ in 0..<2000 {
      let noise = (0..<64).map { _ in UInt8(truncatingIfNeeded: generator.next()) }
      _ = Inflate.expand(noise, byteCount: 4096)
    }
  }
}
