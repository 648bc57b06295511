import Glibc
public import LinuxIO

/// One end of a vhost-user socket: takes and sends one message at a time.
///
/// A message may arrive in any number of pieces. Waiting for the rest of one, or for room to send, is bounded, so a peer
/// that stalls loses its connection and does not hold the thread.
public struct Connection: ~Copyable, Sendable {
  private let socket: UnixSocket
  private let limit: Duration

  /// - Parameter limit: how long a peer may pause inside a message, or leave an answer unread.
  public init(_ socket: consuming UnixSocket, limit: Duration = .seconds(5)) {
    self.socket = socket
    self.limit = limit
  }

  /// The open descriptor, to watch in an event loop.
  public var descriptor: Int32 { socket.descriptor.rawValue }

  /// Another descriptor for the socket, to watch for its end elsewhere.
  func duplicateDescriptor() throws(LinuxError) -> FileDescriptor {
    try socket.descriptor.duplicate()
  }

  /// Takes the next message, or nil when the peer has closed the connection.
  public func receive() throws(VhostUserError) -> Message? {
    let limit = limit
    let received = try system { () throws(LinuxError) in
      try socket.receive(
        exactly: MessageHeader.byteCount, maximumDescriptors: MemoryTable.mostRegions, within: limit)
    }
    guard var received else { return nil }
    let header = try MessageHeader(decoding: received.bytes)
    let payload = try receivePayload(header.payloadByteCount)
    return Message(
      request: header.request, flags: header.flags, payload: payload, descriptors: received.takeDescriptors())
  }

  private func receivePayload(_ byteCount: Int) throws(VhostUserError) -> [UInt8] {
    guard byteCount > 0 else { return [] }
    let limit = limit
    let received = try system { () throws(LinuxError) in
      try socket.receive(exactly: byteCount, within: limit)
    }
    guard let received else { throw .system(LinuxError(call: "recvmsg", number: ECONNRESET)) }
    return received.bytes
  }

  /// Sends a message.
  /// - Parameters:
  ///   - descriptors: borrowed for the call.
  ///   - limit: how long to wait for room; as the connection says when nil.
  func send(
    _ request: UInt32, flags: MessageFlags, payload: [UInt8], descriptors: [Int32] = [], within limit: Duration? = nil
  ) throws(VhostUserError) {
    let header = MessageHeader(request: request, flags: flags.union(.version1), payloadByteCount: payload.count)
    let limit = limit ?? self.limit
    try system { () throws(LinuxError) in
      try socket.send(header.encoded + payload, descriptors: descriptors, within: limit)
    }
  }
}

extension UnixSocket.Received {
  /// Moves the descriptors out.
  mutating func takeDescriptors() -> DescriptorList {
    var list = DescriptorList()
    while let descriptor = descriptors.takeFirst() { list.append(descriptor) }
    return list
  }
}
