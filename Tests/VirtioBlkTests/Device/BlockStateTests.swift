import DeviceState
import Foundation
import Support
import Testing
import VirtioBlk
import VirtioCore

@Suite("Block device: state") struct BlockStateTests {
  @Test("the schema of version 1 is what it was")
  func schema() throws {
    #expect(
      try Schema.text(of: BlockState.self) == """
        block version 1
          capacitySectors: u64
          writeback: bool
          flushFailed: bool
          counters: record
            reads: u64
            readBytes: u64
            writes: u64
            writtenBytes: u64
            flushes: u64
            discards: u64
            zeroWrites: u64
            failures: u64
            unsupported: u64

        """)
    #expect(try Schema(of: BlockState.self).violations.isEmpty)
  }

  /// A state with another value in every field.
  private static var sample: BlockState {
    var state = BlockState()
    state.capacitySectors = 64
    state.writeback = false
    state.flushFailed = true
    state.counters.reads = 0x0102_0304_0506_0708
    state.counters.readBytes = 2
    state.counters.writes = 3
    state.counters.writtenBytes = 4
    state.counters.flushes = 5
    state.counters.discards = 6
    state.counters.zeroWrites = 7
    state.counters.failures = 8
    state.counters.unsupported = 9
    return state
  }

  @Test("version 1 is written and read as it was")
  func golden() throws {
    let url = try #require(Bundle.module.url(forResource: "block-v1", withExtension: "hex", subdirectory: "Fixtures"))
    let digits = try String(contentsOf: url, encoding: .utf8).filter { (digit: Character) in !digit.isWhitespace }
    let written = try Self.sample.encoded().map { String(format: "%02x", $0) }.joined()
    #expect(written == digits, "written now: \(written)")
    let bytes = stride(from: 0, to: digits.count, by: 2).compactMap { offset in
      UInt8(digits.dropFirst(offset).prefix(2), radix: 16)
    }
    #expect(try BlockState(decoding: bytes, version: 1) == Self.sample)
  }

  @Test("a device gives back the state that it adopted, in every field")
  func identity() throws {
    let guest = try BlockGuest(RecordingStore())
    try guest.bench.host.update { (device) throws in try device.adopt(Self.sample) }
    #expect(guest.bench.host.device.state == Self.sample)
  }

  @Test("a state of a disk of another size is refused by the field's name, and changes nothing")
  func otherCapacity() throws {
    let guest = try BlockGuest(RecordingStore())
    let before = guest.bench.host.device.state
    for capacity: UInt64 in [0, 63, 65, .max] {
      var state = Self.sample
      state.capacitySectors = capacity
      do {
        try guest.bench.host.update { (device) throws(StateError) in try device.adopt(state) }
        Issue.record("taken")
      } catch {
        guard case .invalidValue("block", "capacitySectors", _) = error else { throw error }
      }
    }
    #expect(guest.bench.host.device.state == before)
  }

  @Test("writeback travels, and what follows from it", arguments: [0, 1] as [UInt8])
  func writeback(value: UInt8) throws {
    let guest = try BlockGuest(RecordingStore())
    try guest.bench.host.writeConfig([value], at: 32)
    let store = RecordingStore()
    let other = try guest.moved(to: store)
    #expect(other.bench.host.readConfig(at: 32, byteCount: 1) == [value])
    _ = store.takeLog()
    #expect(try other.status(Type.write, [UInt8](repeating: 1, count: 512)) == Status.done)
    #expect(store.takeLog() == (value == 0 ? [.write(at: 0), .flush] : [.write(at: 0)]))
  }

  @Test("a device that moves keeps its counters, and takes the disk with its queues")
  func exclusivity() throws {
    let source = RecordingStore()
    let guest = try BlockGuest(source)
    let target = RecordingStore()
    let other = try guest.moved(to: target)
    #expect(other.bench.host.device.counters == guest.bench.host.device.counters)
    #expect(target.with { $0.exclusivity }.last == true)
  }
}
