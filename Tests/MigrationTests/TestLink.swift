import LinuxIO
import Synchronization

@testable import Migration

/// A channel over a socket that does to its messages what a test wants. The opening and hello are message 0; each other
/// frame is one message, and the page data behind a frame another.
final class TestLink: Channel {
  enum Step: Equatable {
    case send([UInt8])
    case shutDown
    /// No message after this one goes on, and nobody is told.
    case fallSilent
    /// The sender is told that it did not go.
    case fail(LinuxError)
  }

  /// What becomes of a message; nil leaves it alone.
  typealias Tamper = @Sendable (_ index: Int, _ message: [UInt8]) -> [Step]?

  private let socket: UnixSocket
  private let tamper: Tamper?
  private let watch: (@Sendable ([UInt8]) -> Void)?
  private let count = Mutex(0)
  private let isSilent = Mutex(false)

  init(
    _ socket: consuming UnixSocket, tamper: Tamper? = nil, watch: (@Sendable (_ received: [UInt8]) -> Void)? = nil
  ) {
    self.socket = socket
    self.tamper = tamper
    self.watch = watch
  }

  /// How many messages have been sent.
  var messageCount: Int { count.withLock { $0 } }

  func shutDown() { socket.shutDown() }

  private func isTampered(
    _ message: @autoclosure () -> [UInt8], _ descriptors: [Int32] = [], within limit: Duration
  ) throws(LinuxError) -> Bool {
    let index = count.withLock { (count) in
      defer { count += 1 }
      return count
    }
    if isSilent.withLock({ $0 }) { return true }
    guard let tamper, let steps = tamper(index, message()) else { return false }
    for step in steps {
      switch step {
      case .send(let bytes): try socket.send(bytes, descriptors: descriptors, within: limit)
      case .shutDown: socket.shutDown()
      case .fallSilent: isSilent.withLock { $0 = true }
      case .fail(let error): throw error
      }
    }
    return true
  }

  func send(_ bytes: [UInt8], within limit: Duration) throws(LinuxError) {
    guard try !isTampered(bytes, within: limit) else { return }
    try socket.send(bytes, within: limit)
  }

  func send(_ vectors: borrowing IOVectors, within limit: Duration) throws(LinuxError) {
    let copy = vectors.copyBytes()
    guard try !isTampered(copy, within: limit) else { return }
    try socket.send(vectors, within: limit)
  }

  var passesDescriptors: Bool { true }

  func send(_ bytes: [UInt8], descriptors: [Int32], within limit: Duration) throws(LinuxError) {
    guard try !isTampered(bytes, descriptors, within: limit) else { return }
    try socket.send(bytes, descriptors: descriptors, within: limit)
  }

  func receive(
    exactly byteCount: Int, mostDescriptors most: Int, within limit: Duration
  ) throws(LinuxError) -> UnixSocket.Received? {
    try socket.receive(exactly: byteCount, maximumDescriptors: most, within: limit)
  }

  func receive(exactly byteCount: Int, within limit: Duration) throws(LinuxError) -> [UInt8]? {
    let bytes = try socket.receive(exactly: byteCount, within: limit)
    if let bytes { watch?(bytes) }
    return bytes
  }

  func waitUntilReadable(within limit: Duration) throws(LinuxError) -> Bool {
    try socket.waitUntilReadable(within: limit)
  }

  func receive(into vectors: borrowing IOVectors, within limit: Duration) throws(LinuxError) -> Bool {
    try socket.receive(into: vectors, within: limit)
  }
}

/// Both ends of a connection.
struct TestLinks: Sendable {
  let source: TestLink
  let destination: TestLink

  init(
    source: TestLink.Tamper? = nil, destination: TestLink.Tamper? = nil,
    watch: (@Sendable (_ receivedByDestination: [UInt8]) -> Void)? = nil
  ) throws {
    let pair = try UnixSocket.pair()
    self.source = TestLink(UnixSocket(owning: try pair.first.descriptor.duplicate()), tamper: source)
    self.destination = TestLink(
      UnixSocket(owning: try pair.second.descriptor.duplicate()), tamper: destination, watch: watch)
  }
}
