import Glibc
import LinuxIO

/// The bytes of a device's state on their way through a front-end's pipe, as fast as the front-end takes or gives them.
final class StateTransfer {
  enum Direction: UInt32 {
    case save = 0
    case load = 1
  }

  /// How far the transfer is.
  private enum Progress: Equatable {
    case underWay
    case finished
    case failed
  }

  /// The most that is taken: more than any device's state, and no harm to keep.
  static let mostByteCount = 16 << 20

  private static let chunkByteCount = 1 << 16

  let direction: Direction
  private let loop: EventLoop
  private var pipe: FileDescriptor?
  private var watch: EventLoop.Registration?
  private var progress = Progress.underWay
  /// All that was received, or is to be sent.
  private(set) var bytes: [UInt8]
  private var sentCount = 0

  /// Begins to send `bytes`, or to receive.
  ///
  /// `EINVAL` is thrown for what is neither a pipe nor a socket.
  init(
    _ direction: Direction, _ pipe: consuming FileDescriptor, sending bytes: [UInt8] = [], on loop: EventLoop
  ) throws(LinuxError) {
    guard [.pipe, .socket].contains(try pipe.status.kind) else { throw LinuxError(call: "poll", number: EINVAL) }
    try pipe.setBlocking(false)
    self.direction = direction
    self.loop = loop
    self.bytes = bytes
    watch = try loop.watch(pipe.rawValue, for: direction == .save ? .writable : .readable) { [weak self] in
      self?.advance()
    }
    self.pipe = consume pipe
  }

  /// Ends the transfer where it is.
  func cancel() {
    end(.failed)
  }

  /// Moves what can be moved now.
  ///
  /// - Returns: whether everything is through. A front-end that asks has closed its end before.
  func finish() -> Bool {
    // Bounded, for a peer may write as fast as this reads.
    for _ in 0...(Self.mostByteCount / Self.chunkByteCount) where progress == .underWay && advance() {}
    return progress == .finished
  }

  /// - Returns: whether anything moved.
  @discardableResult
  private func advance() -> Bool {
    do throws(LinuxError) {
      try direction == .save ? send() : receive()
      return true
    } catch {
      if error.number != EAGAIN { end(.failed) }
      return false
    }
  }

  private func send() throws(LinuxError) {
    sentCount += try pipe?.write(upTo: bytes[sentCount...]) ?? 0
    if sentCount == bytes.count { end(.finished) }
  }

  private func receive() throws(LinuxError) {
    let chunk = try pipe?.readBytes(upTo: Self.chunkByteCount) ?? []
    if chunk.isEmpty { return end(.finished) }
    guard bytes.count + chunk.count <= Self.mostByteCount else { return end(.failed) }
    bytes += chunk
  }

  private func end(_ progress: Progress) {
    if self.progress == .underWay { self.progress = progress }
    if let watch { loop.cancel(watch) }
    watch = nil
    pipe = nil
  }
}
