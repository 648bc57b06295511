import GuestRAM

/// Who is there.
struct Hello: Equatable {
  enum Role: UInt8 {
    case source = 0
    case destination = 1
  }

  static let mostProducer = 255

  var role: Role
  /// The program, for people to read.
  var producer: String

  var payload: [UInt8] {
    var writer = WireWriter()
    writer.append(role.rawValue)
    writer.append(producer, most: Self.mostProducer)
    return writer.bytes
  }

  init(_ role: Role, producer: String) {
    self.role = role
    self.producer = producer
  }

  init(_ payload: [UInt8]) throws(MigrationError) {
    var reader = WireReader(payload)
    guard let role = reader.integer().flatMap(Role.init(rawValue:)),
      let producer = reader.text(most: Self.mostProducer), reader.remainingCount == 0
    else { throw .malformedFrame(.hello) }
    self.init(role, producer: producer)
  }
}

/// Why a side goes no further, in its own words.
struct Abort {
  private static let mostReason = 1024

  /// What the side that hears it throws: `peerFailed` or `refused`.
  let heard: MigrationError

  /// What to tell the peer about an error of this side.
  init(_ error: MigrationError) {
    if case .refused = error { heard = error } else { heard = .peerFailed(error.description) }
  }

  var payload: [UInt8] {
    var writer = WireWriter()
    switch heard {
    case .refused(let source, let destination, let reason):
      writer.append(UInt8(1))
      writer.append(reason, most: Self.mostReason)
      writer.append(source, most: Hello.mostProducer)
      writer.append(destination, most: Hello.mostProducer)
    case .peerFailed(let reason):
      writer.append(UInt8(0))
      writer.append(reason, most: Self.mostReason)
    default: preconditionFailure("init makes no other")
    }
    return writer.bytes
  }

  init(_ payload: [UInt8]) throws(MigrationError) {
    var reader = WireReader(payload)
    guard let isRefusal: UInt8 = reader.integer(), isRefusal <= 1, let reason = reader.text(most: Self.mostReason)
    else { throw .malformedFrame(.abort) }
    if isRefusal == 0 {
      heard = .peerFailed(reason)
    } else {
      guard let source = reader.text(most: Hello.mostProducer), let destination = reader.text(most: Hello.mostProducer)
      else { throw .malformedFrame(.abort) }
      heard = .refused(source: source, destination: destination, reason: reason)
    }
    guard reader.remainingCount == 0 else { throw .malformedFrame(.abort) }
  }
}

/// The start of another pass over memory: 1 for the second, and so on.
struct Pass {
  /// The most passes of a move.
  static let most: UInt32 = 10_000

  static func payload(_ number: UInt32) -> [UInt8] {
    var writer = WireWriter()
    writer.append(number)
    return writer.bytes
  }

  static func number(_ payload: [UInt8]) throws(MigrationError) -> UInt32 {
    var reader = WireReader(payload)
    guard let number: UInt32 = reader.integer(), reader.remainingCount == 0 else { throw .malformedFrame(.pass) }
    return number
  }
}

/// What the source says it has sent, once it has.
struct Completion: Equatable {
  let dataPageCount: UInt64
  let zeroPageCount: UInt64
  let outstandingPageCount: UInt64
  let stateByteCount: UInt64
  let stateDigest: UInt64
  /// Whether the source waits for digests.
  let isToVerify: Bool

  var payload: [UInt8] {
    var writer = WireWriter()
    for value in [dataPageCount, zeroPageCount, outstandingPageCount, stateByteCount, stateDigest] {
      writer.append(value)
    }
    writer.append(UInt8(isToVerify ? 1 : 0))
    return writer.bytes
  }
}

extension Completion {
  init(_ payload: [UInt8]) throws(MigrationError) {
    var reader = WireReader(payload)
    guard let dataPageCount: UInt64 = reader.integer(), let zeroPageCount: UInt64 = reader.integer(),
      let outstandingPageCount: UInt64 = reader.integer(), let stateByteCount: UInt64 = reader.integer(),
      let stateDigest: UInt64 = reader.integer(),
      let isToVerify: UInt8 = reader.integer(), isToVerify <= 1, reader.remainingCount == 0
    else { throw .malformedFrame(.complete) }
    self.dataPageCount = dataPageCount
    self.zeroPageCount = zeroPageCount
    self.outstandingPageCount = outstandingPageCount
    self.stateByteCount = stateByteCount
    self.stateDigest = stateDigest
    self.isToVerify = isToVerify == 1
  }
}
