import LinuxIO
import Migration

/// What befalls the first frame of a kind that one side sends.
struct FrameFault: Sendable {
  enum Effect: CaseIterable, Sendable {
    /// The connection ends before it.
    case cut
    /// It comes damaged.
    case damage
  }

  let effect: Effect
  let kind: FrameKind
  /// Whether it is the source that sends it.
  let isSource: Bool
}

/// A connection on which a frame that this side sends comes to grief.
final class FaultyLink: Channel {
  private let link: MigrationLink
  /// Nil for one on which all is well.
  private let fault: FrameFault?

  init(_ link: MigrationLink, _ fault: FrameFault?) {
    self.link = link
    self.fault = fault
  }

  func send(_ bytes: [UInt8], within limit: Duration) throws(LinuxError) {
    try link.send(befallen(bytes), within: limit)
  }

  private func befallen(_ bytes: [UInt8]) -> [UInt8] {
    // A frame begins with its kind, in two bytes.
    guard let fault, bytes.count >= 32, UInt16(bytes[0]) | UInt16(bytes[1]) << 8 == fault.kind.rawValue else {
      return bytes
    }
    switch fault.effect {
    case .cut:
      link.shutDown()
      return bytes
    case .damage: return bytes.dropLast() + [bytes[bytes.count - 1] ^ 1]
    }
  }

  // MARK: - As it is

  func send(_ vectors: borrowing IOVectors, within limit: Duration) throws(LinuxError) {
    try link.send(vectors, within: limit)
  }

  var passesDescriptors: Bool { link.passesDescriptors }

  func send(_ bytes: [UInt8], descriptors: [Int32], within limit: Duration) throws(LinuxError) {
    try link.send(bytes, descriptors: descriptors, within: limit)
  }

  func receive(
    exactly byteCount: Int, mostDescriptors most: Int, within limit: Duration
  ) throws(LinuxError) -> UnixSocket.Received? {
    try link.receive(exactly: byteCount, mostDescriptors: most, within: limit)
  }

  func receive(exactly byteCount: Int, within limit: Duration) throws(LinuxError) -> [UInt8]? {
    try link.receive(exactly: byteCount, within: limit)
  }

  func receive(into vectors: borrowing IOVectors, within limit: Duration) throws(LinuxError) -> Bool {
    try link.receive(into: vectors, within: limit)
  }

  func waitUntilReadable(within limit: Duration) throws(LinuxError) -> Bool {
    try link.waitUntilReadable(within: limit)
  }

  func shutDown() { link.shutDown() }
}
