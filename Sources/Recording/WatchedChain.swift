import DeviceState
import GuestRAM

/// Follows a chain of descriptors as far as any device would, with offsets and flags of its own (2.7.5). What is wrong with
/// it is for the device to find.
struct WatchedChain {
  private static let nextFlag: UInt16 = 1
  private static let writeFlag: UInt16 = 2
  private static let indirectFlag: UInt16 = 4
  private static let descriptorByteCount: UInt64 = 16
  private static let longestTable: UInt32 = 32768

  /// The device-writable buffers, in order.
  private(set) var writable: [GuestBuffer] = []
  private let memory: GuestMemory

  init(_ memory: GuestMemory) {
    self.memory = memory
  }

  private struct Descriptor {
    let address: UInt64
    let length: UInt32
    let flags: UInt16
    let next: UInt16

    init(_ bytes: [UInt8]) {
      func number(_ range: Range<Int>) -> UInt64 {
        range.reduce(0) { $0 | UInt64(bytes[$1]) << UInt64(8 * ($1 - range.lowerBound)) }
      }
      address = number(0..<8)
      length = UInt32(truncatingIfNeeded: number(8..<12))
      flags = UInt16(truncatingIfNeeded: number(12..<14))
      next = UInt16(truncatingIfNeeded: number(14..<16))
    }
  }

  /// Notes what can be read of the chain that begins at `head`.
  mutating func follow(
    _ head: UInt16, in table: GuestAddress, count: UInt16, _ patches: inout PatchList
  ) throws(RecordingError) {
    var index = head
    for _ in 0..<count {
      guard index < count, let bytes = try patches.add(entry(UInt32(index), of: table.rawValue), of: memory) else {
        return
      }
      let descriptor = Descriptor(bytes)
      if descriptor.flags & Self.indirectFlag != 0 {
        try followTable(at: descriptor, &patches)
      } else {
        try note(descriptor, &patches)
      }
      guard descriptor.flags & Self.nextFlag != 0 else { return }
      index = descriptor.next
    }
  }

  private mutating func followTable(at place: Descriptor, _ patches: inout PatchList) throws(RecordingError) {
    let count = min(place.length / UInt32(Self.descriptorByteCount), Self.longestTable)
    var index: UInt32 = 0
    for _ in 0..<count {
      guard index < count, let bytes = try patches.add(entry(index, of: place.address), of: memory) else { return }
      let descriptor = Descriptor(bytes)
      try note(descriptor, &patches)
      guard descriptor.flags & Self.nextFlag != 0 else { return }
      index = UInt32(descriptor.next)
    }
  }

  private func entry(_ index: UInt32, of table: UInt64) -> GuestRange {
    GuestRange(
      start: GuestAddress(table &+ Self.descriptorByteCount &* UInt64(index)), byteCount: Self.descriptorByteCount)
  }

  private mutating func note(_ descriptor: Descriptor, _ patches: inout PatchList) throws(RecordingError) {
    let buffer = GuestBuffer(address: GuestAddress(descriptor.address), byteCount: Int(descriptor.length))
    if descriptor.flags & Self.writeFlag != 0 {
      writable.append(buffer)
    } else {
      try patches.add(buffer.range, of: memory)
    }
  }
}

/// Bytes of guest memory that were noted, no more of them than a recording takes.
struct PatchList {
  private(set) var patches: [Patch] = []
  private var byteCount = 0

  /// Notes a range, or those parts of it that are guest memory.
  /// - Returns: its bytes, if all of it is.
  @discardableResult
  mutating func add(_ range: GuestRange, of memory: GuestMemory) throws(RecordingError) -> [UInt8]? {
    if let bytes = try take(range, of: memory) { return bytes }
    for region in memory.regions {
      if let part = region.range.overlap(range) { _ = try take(part, of: memory) }
    }
    return nil
  }

  private mutating func take(_ range: GuestRange, of memory: GuestMemory) throws(RecordingError) -> [UInt8]? {
    guard range.byteCount > 0, memory.has(range) else { return nil }
    let total = byteCount + Int(range.byteCount)
    guard total <= TapeLimits.contentByteCount else {
      throw .tooMuch("bytes that a device may read in one call", count: total, limit: TapeLimits.contentByteCount)
    }
    guard let bytes = memory.copy(of: range) else { return nil }
    byteCount = total
    patches.append(Patch(address: range.start, bytes: bytes))
    return bytes
  }
}

extension GuestMemory {
  /// Whether all of a range is guest memory.
  func has(_ range: GuestRange) -> Bool {
    do throws(GuestMemoryError) {
      try check(range)
      return true
    } catch {
      return false
    }
  }

  /// What a range holds; nil when not all of it is guest memory. The caller bounds its length.
  func copy(of range: GuestRange) -> [UInt8]? {
    do throws(GuestMemoryError) { return try readBytes(Int(range.byteCount), at: range.start) } catch { return nil }
  }

  /// The checksum of bytes, of those that are guest memory.
  func checksum(_ address: GuestAddress, _ byteCount: Int, after previous: UInt32) -> UInt32 {
    var checksum = previous
    for start in stride(from: 0, to: byteCount, by: 1 << 16) {
      let place = GuestAddress(address.rawValue &+ UInt64(start))
      let part = GuestRange(start: place, byteCount: UInt64(min(byteCount - start, 1 << 16)))
      guard let bytes = copy(of: part) else { continue }
      checksum = CRC32C.checksum(bytes, after: checksum)
    }
    return checksum
  }
}
