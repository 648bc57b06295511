import LinuxIO
import Testing
import VirtioBlk

@Suite("Raw images")
struct FileStoreTests {
  @Test("What is written is read back, and what was never written reads as zeros")
  func roundTrip() throws {
    let probe = try StoreProbe(FileStore(inMemory: 1 << 20))
    let bytes = (0..<1536).map { UInt8(truncatingIfNeeded: $0 &* 7) }
    try probe.write(bytes, at: 4096)
    #expect(try probe.read(1536, at: 4096) == bytes)
    #expect(try probe.read(512, at: 0) == [UInt8](repeating: 0, count: 512))
  }

  @Test("A range that was zeroed reads as zeros, whether its space was given back or kept", arguments: [false, true])
  func zeroes(mayUnmap: Bool) throws {
    let probe = try StoreProbe(FileStore(inMemory: 1 << 20))
    try probe.write([UInt8](repeating: 1, count: 16384), at: 0)
    try probe.perform(.writeZeroes(512..<9000 / 512 * 512, mayUnmap: mayUnmap))
    #expect(try probe.read(1024, at: 0) == [UInt8](repeating: 1, count: 512) + [UInt8](repeating: 0, count: 512))
    #expect(try probe.read(512, at: 9216) == [UInt8](repeating: 1, count: 512))
  }

  @Test("A place beyond the end is refused, and so is a length that no place has")
  func beyondEnd() throws {
    let probe = try StoreProbe(FileStore(inMemory: 1 << 20))
    #expect(throws: StoreError.beyondEnd(at: 1 << 20, byteCount: 512)) { try probe.read(512, at: 1 << 20) }
    #expect(throws: StoreError.beyondEnd(at: .max - 511, byteCount: 512)) { try probe.read(512, at: .max - 511) }
  }

  @Test("An image that was made larger has the new size and reads as zeros there")
  func resize() throws {
    let store = try FileStore(inMemory: 1 << 20)
    let probe = try StoreProbe(store)
    try store.resize(toByteCount: 2 << 20)
    #expect(store.byteCount == 2 << 20)
    #expect(try probe.read(512, at: 3 << 19) == [UInt8](repeating: 0, count: 512))
    #expect(throws: StoreError.illegalSize(1000)) { try store.resize(toByteCount: 1000) }
  }

  @Test("An empty range is discarded and zeroed without effect")
  func emptyRanges() throws {
    let probe = try StoreProbe(FileStore(inMemory: 1 << 20))
    let bytes = [UInt8](repeating: 3, count: 512)
    try probe.write(bytes, at: 512)
    try probe.perform(.discard(512..<512))
    try probe.perform(.writeZeroes(512..<512, mayUnmap: true))
    try probe.perform(.writeZeroes(512..<512, mayUnmap: false))
    #expect(try probe.read(512, at: 512) == bytes)
  }
}
