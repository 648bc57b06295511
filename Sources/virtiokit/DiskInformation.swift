import Options
import VirtioBlk

/// What there is to say of a disk, for people and for programs.
struct DiskInformation {
  let isConnected: Bool
  let byteCount: UInt64
  let isReadOnly: Bool
  let counters: BlockCounters
  let trouble: StoreError?

  init(isConnected: Bool, _ disk: borrowing BlockDevice) {
    self.isConnected = isConnected
    byteCount = disk.store.byteCount
    isReadOnly = disk.store.isReadOnly
    counters = disk.counters
    trouble = disk.flushFailure ?? disk.trouble
  }

  var text: String {
    var lines = [
      ("guest", isConnected ? "connected" : "none"),
      ("size", "\(ByteCount(bytes: byteCount))" + (isReadOnly ? ", read-only" : "")),
      ("reads", "\(counters.reads) (\(ByteCount(bytes: counters.readBytes)))"),
      ("writes", "\(counters.writes) (\(ByteCount(bytes: counters.writtenBytes)))"),
      ("flushes", "\(counters.flushes)"),
      ("discards", "\(counters.discards)"),
      ("writes of zeros", "\(counters.zeroWrites)"),
      ("failed", "\(counters.failures)"),
      ("not supported", "\(counters.unsupported)"),
    ]
    if let trouble { lines.append(("last failure", "\(trouble)")) }
    return lines.map { "\($0)\(String(repeating: " ", count: 18 - $0.count))\($1)\n" }.joined()
  }

  var json: JSON {
    .object([
      ("connected", .bool(isConnected)), ("size_bytes", .number(byteCount)), ("read_only", .bool(isReadOnly)),
      ("reads", .number(counters.reads)), ("read_bytes", .number(counters.readBytes)),
      ("writes", .number(counters.writes)), ("written_bytes", .number(counters.writtenBytes)),
      ("flushes", .number(counters.flushes)), ("discards", .number(counters.discards)),
      ("zero_writes", .number(counters.zeroWrites)), ("failures", .number(counters.failures)),
      ("unsupported", .number(counters.unsupported)), ("trouble", trouble.map { .text("\($0)") } ?? .null),
    ])
  }
}
