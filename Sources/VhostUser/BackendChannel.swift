import Glibc
import LinuxIO

/// The way back: messages from the device to the front-end, on the socket of `SET_BACKEND_REQ_FD`.
///
/// With acknowledgements there is at most one unanswered notice of a changed configuration: further changes wait for the
/// answer and then become one notice, so neither side can be flooded.
final class BackendChannel {
  private let connection: Connection
  private let loop: EventLoop
  private let wantsReplies: Bool
  private let fail: (VhostUserError) -> Void
  private var watch: EventLoop.Registration?
  private var isAnswerDue = false
  private var hasChangedAgain = false

  /// - Parameters:
  ///   - wantsReplies: whether `REPLY_ACK` was negotiated.
  ///   - fail: told, at most once, when the channel cannot be used any more.
  init(
    _ socket: consuming UnixSocket, on loop: EventLoop, wantsReplies: Bool, fail: @escaping (VhostUserError) -> Void
  ) throws(LinuxError) {
    connection = Connection(socket)
    self.loop = loop
    self.wantsReplies = wantsReplies
    self.fail = fail
    watch = try loop.watch(connection.descriptor) { [unowned self] in receiveAnswer() }
  }

  /// Stops listening for answers; the channel must not be used any more.
  func close() {
    if let watch { loop.cancel(watch) }
    watch = nil
  }

  /// Tells the front-end that the configuration space has changed.
  func configurationChanged() {
    guard watch != nil else { return }
    if isAnswerDue {
      hasChangedAgain = true
      return
    }
    do throws(VhostUserError) {
      try connection.send(
        BackendRequest.configChangeMsg.rawValue, flags: wantsReplies ? .needReply : [], payload: [], within: .zero)
      isAnswerDue = wantsReplies
    } catch {
      // A socket without room is full of notices that say the same.
      if case .system(let error) = error, error.number == ETIMEDOUT { return }
      giveUp(error)
    }
  }

  /// Tells the front-end of used buffers, where there is no call descriptor.
  func queueHasUsedBuffers(_ index: Int) {
    guard watch != nil else { return }
    do throws(VhostUserError) {
      let state = VringState(index: UInt32(index), value: 0)
      try connection.send(BackendRequest.vringCall.rawValue, flags: [], payload: state.encoded)
    } catch {
      giveUp(error)
    }
  }

  private func receiveAnswer() {
    do throws(VhostUserError) {
      guard let message = try connection.receive() else { return close() }
      try take(message)
    } catch {
      giveUp(error)
    }
  }

  /// What the front-end made of the notice is its own affair: it knows now.
  private func take(_ message: borrowing Message) throws(VhostUserError) {
    guard message.flags.contains(.reply), isAnswerDue else { throw .wrongDirection(request: message.request) }
    guard message.request == BackendRequest.configChangeMsg.rawValue else {
      throw .unsupported(request: message.request)
    }
    _ = try message.number()
    isAnswerDue = false
    guard hasChangedAgain else { return }
    hasChangedAgain = false
    configurationChanged()
  }

  private func giveUp(_ error: VhostUserError) {
    close()
    fail(error)
  }
}
