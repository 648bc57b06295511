/// Takes little-endian integers from bytes whose number has been checked.
struct PayloadReader {
  private(set) var rest: ArraySlice<UInt8>

  init(_ bytes: [UInt8]) {
    rest = bytes[...]
  }

  mutating func next<Integer: FixedWidthInteger>(as type: Integer.Type = Integer.self) -> Integer {
    let byteCount = Integer.bitWidth / 8
    precondition(rest.count >= byteCount, "a payload's size is checked before it is read")
    defer { rest = rest.dropFirst(byteCount) }
    return rest.prefix(byteCount).reversed().reduce(0) { $0 << 8 | Integer($1) }
  }
}

extension [UInt8] {
  mutating func append<Integer: FixedWidthInteger>(littleEndian value: Integer) {
    for shift in stride(from: 0, to: Integer.bitWidth, by: 8) {
      append(UInt8(truncatingIfNeeded: value >> Integer(shift)))
    }
  }
}

extension Message {
  /// The payload, when it has exactly as many bytes as it should.
  private borrowing func reader(ofExactly byteCount: Int) throws(VhostUserError) -> PayloadReader {
    guard payload.count == byteCount else {
      throw .wrongPayloadSize(request: request, byteCount: payload.count, expected: byteCount)
    }
    return PayloadReader(payload)
  }

  /// Throws unless the message has no payload.
  borrowing func checkNoPayload() throws(VhostUserError) {
    _ = try reader(ofExactly: 0)
  }

  /// A payload of one 64-bit number.
  borrowing func number() throws(VhostUserError) -> UInt64 {
    var reader = try reader(ofExactly: 8)
    return reader.next()
  }

  borrowing func vringState() throws(VhostUserError) -> VringState {
    var reader = try reader(ofExactly: 8)
    return VringState(index: reader.next(), value: reader.next())
  }

  borrowing func vringAddresses() throws(VhostUserError) -> VringAddresses {
    var reader = try reader(ofExactly: 40)
    return VringAddresses(
      index: reader.next(), flags: reader.next(), descriptorTable: reader.next(), usedRing: reader.next(),
      availableRing: reader.next(), log: reader.next())
  }

  borrowing func vringDescriptor() throws(VhostUserError) -> VringDescriptor {
    let number = try number()
    return VringDescriptor(index: UInt32(number & 0xff), hasDescriptor: number & 0x100 == 0)
  }

  borrowing func memoryRegions() throws(VhostUserError) -> [RegionPayload] {
    guard payload.count >= 8 else {
      throw .wrongPayloadSize(request: request, byteCount: payload.count, expected: 8)
    }
    var reader = PayloadReader(payload)
    let count: UInt32 = reader.next()
    guard (1...UInt32(MemoryTable.mostRegions)).contains(count) else {
      throw .wrongRegionCount(count, most: MemoryTable.mostRegions)
    }
    // User-Mode Linux always sends room for two regions and means as many as it counts.
    let room = (payload.count - 8) / RegionPayload.byteCount
    let expected = 8 + min(max(Int(count), room), MemoryTable.mostRegions) * RegionPayload.byteCount
    reader = try self.reader(ofExactly: expected)
    _ = reader.next(as: UInt64.self)
    return (0..<count).map { _ in RegionPayload(&reader) }
  }

  borrowing func memoryRegion() throws(VhostUserError) -> RegionPayload {
    var reader = try reader(ofExactly: 8 + RegionPayload.byteCount)
    _ = reader.next(as: UInt64.self)
    return RegionPayload(&reader)
  }

  borrowing func logPlace() throws(VhostUserError) -> LogPlace {
    var reader = try reader(ofExactly: 16)
    return LogPlace(byteCount: reader.next(), fileOffset: reader.next())
  }

  borrowing func inflightPlace() throws(VhostUserError) -> InflightPlace {
    // The protocol's text has no padding, most front-ends do.
    let isPadded = payload.count != InflightPlace.byteCount
    var reader = try reader(ofExactly: isPadded ? InflightPlace.paddedByteCount : InflightPlace.byteCount)
    return InflightPlace(
      isPadded: isPadded, byteCount: reader.next(), fileOffset: reader.next(), queueCount: reader.next(),
      queueSize: reader.next())
  }

  borrowing func stateTransfer() throws(VhostUserError) -> StateTransfer.Direction {
    let state = try vringState()
    guard state.value == 0, let direction = StateTransfer.Direction(rawValue: state.index) else {
      throw .illegalStateTransfer(direction: state.index, phase: state.value)
    }
    return direction
  }

  borrowing func config() throws(VhostUserError) -> ConfigPayload {
    let headerByteCount = ConfigPayload.headerByteCount
    guard payload.count >= headerByteCount else {
      throw .wrongPayloadSize(request: request, byteCount: payload.count, expected: headerByteCount)
    }
    var reader = PayloadReader(payload)
    let offset: UInt32 = reader.next()
    let byteCount: UInt32 = reader.next()
    let flags: UInt32 = reader.next()
    guard reader.rest.count == byteCount else {
      throw .wrongPayloadSize(
        request: request, byteCount: payload.count, expected: headerByteCount + Int(byteCount))
    }
    return ConfigPayload(offset: offset, flags: flags, bytes: Array(reader.rest))
  }
}

/// A ring and a number that means something for it.
struct VringState: Equatable {
  let index: UInt32
  let value: UInt32

  var encoded: [UInt8] {
    var bytes: [UInt8] = []
    bytes.append(littleEndian: index)
    bytes.append(littleEndian: value)
    return bytes
  }
}

/// Where a ring is, in addresses of the front-end's own process.
struct VringAddresses: Equatable {
  let index: UInt32
  let flags: UInt32
  let descriptorTable: UInt64
  let usedRing: UInt64
  let availableRing: UInt64
  /// Where the used ring counts as written, in the log's guest addresses.
  let log: UInt64

  /// Whether stores to the used ring are to be logged.
  var isLogged: Bool { flags & 1 != 0 }

  /// Whether the ring is where the other is, however it is logged.
  func haveSamePlaces(as other: VringAddresses) -> Bool {
    descriptorTable == other.descriptorTable && usedRing == other.usedRing && availableRing == other.availableRing
  }
}

/// Which ring a descriptor is for, and whether there is one.
struct VringDescriptor: Equatable {
  let index: UInt32
  let hasDescriptor: Bool
}

/// A stretch of guest memory in the file that came with the message.
struct RegionPayload: Equatable {
  static let byteCount = 32

  let guestAddress: UInt64
  let byteCount: UInt64
  let userAddress: UInt64
  let fileOffset: UInt64

  var encoded: [UInt8] {
    [guestAddress, byteCount, userAddress, fileOffset].flatMap(\.encoded)
  }

  /// Whether both name the same memory; where it is in which file does not count.
  func namesSame(as other: RegionPayload) -> Bool {
    guestAddress == other.guestAddress && byteCount == other.byteCount && userAddress == other.userAddress
  }
}

extension RegionPayload {
  fileprivate init(_ reader: inout PayloadReader) {
    self.init(
      guestAddress: reader.next(), byteCount: reader.next(), userAddress: reader.next(), fileOffset: reader.next())
  }
}

/// Where a dirty log is in the file that came with the message.
struct LogPlace: Equatable {
  let byteCount: UInt64
  let fileOffset: UInt64
}

/// An in-flight region: where it is in its file, and what it is made for.
struct InflightPlace: Equatable {
  static let byteCount = 20
  /// As the C structure of most front-ends has it.
  static let paddedByteCount = 24

  /// Whether the message has the padding; its answer does as it did.
  let isPadded: Bool
  let byteCount: UInt64
  let fileOffset: UInt64
  let queueCount: UInt16
  let queueSize: UInt16

  var encoded: [UInt8] {
    var bytes: [UInt8] = []
    bytes.append(littleEndian: byteCount)
    bytes.append(littleEndian: fileOffset)
    bytes.append(littleEndian: queueCount)
    bytes.append(littleEndian: queueSize)
    if isPadded { bytes.append(littleEndian: UInt32(0)) }
    return bytes
  }
}

/// A piece of configuration space.
struct ConfigPayload: Equatable {
  static let headerByteCount = 12

  let offset: UInt32
  let flags: UInt32
  let bytes: [UInt8]

  var encoded: [UInt8] {
    var encoded: [UInt8] = []
    encoded.append(littleEndian: offset)
    encoded.append(littleEndian: UInt32(bytes.count))
    encoded.append(littleEndian: flags)
    return encoded + bytes
  }
}

extension UInt64 {
  var encoded: [UInt8] {
    var bytes: [UInt8] = []
    bytes.append(littleEndian: self)
    return bytes
  }
}
