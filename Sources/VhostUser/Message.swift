public import LinuxIO

/// A message of the vhost-user protocol, with the descriptors that came with it.
public struct Message: ~Copyable, Sendable {
  /// The message's number; see `FrontendRequest`.
  public let request: UInt32
  public let flags: MessageFlags
  public let payload: [UInt8]
  /// What came with it, closed unless taken.
  public var descriptors: DescriptorList
}

/// The flags word of a message: version, direction, and whether an acknowledgement is asked for.
public struct MessageFlags: OptionSet, Sendable {
  public let rawValue: UInt32

  public init(rawValue: UInt32) {
    self.rawValue = rawValue
  }

  /// Protocol version 1, in the two lowest bits; there is no other.
  public static let version1 = MessageFlags(rawValue: 1)
  /// The message answers another.
  public static let reply = MessageFlags(rawValue: 4)
  /// The sender waits for success or failure.
  public static let needReply = MessageFlags(rawValue: 8)

  static let versionMask = MessageFlags(rawValue: 3)
}

/// What precedes each payload: three little-endian words.
struct MessageHeader: Equatable {
  static let byteCount = 12
  /// The longest payload that is taken: 4096 bytes of configuration space with their description.
  static let mostPayloadBytes = 4096 + ConfigPayload.headerByteCount

  let request: UInt32
  let flags: MessageFlags
  let payloadByteCount: Int

  init(request: UInt32, flags: MessageFlags, payloadByteCount: Int) {
    self.request = request
    self.flags = flags
    self.payloadByteCount = payloadByteCount
  }

  init(decoding bytes: [UInt8]) throws(VhostUserError) {
    var reader = PayloadReader(bytes)
    request = reader.next()
    flags = MessageFlags(rawValue: reader.next())
    let size: UInt32 = reader.next()
    guard flags.intersection(.versionMask) == .version1 else {
      throw .wrongVersion(request: request, flags: flags.rawValue)
    }
    guard size <= Self.mostPayloadBytes else {
      throw .payloadTooLarge(request: request, byteCount: Int(size), most: Self.mostPayloadBytes)
    }
    payloadByteCount = Int(size)
  }

  var encoded: [UInt8] {
    var bytes: [UInt8] = []
    bytes.append(littleEndian: request)
    bytes.append(littleEndian: flags.rawValue)
    bytes.append(littleEndian: UInt32(payloadByteCount))
    return bytes
  }
}
