import Synchronization

/// Messages from any thread to the thread of an event loop, in the order in which they were posted.
public final class Inbox<Message: Sendable>: Sendable {
  private struct Contents {
    var messages: [Message] = []
    var isClosed = false
  }

  private let contents = Mutex(Contents())
  private let wakeUp: Eventfd

  init() throws(LinuxError) {
    wakeUp = try Eventfd()
  }

  /// Leaves a message. It may be called from anywhere, the loop's own thread included, and never waits for the loop.
  /// - Returns: false when the loop is gone and the message with it.
  @discardableResult
  public func post(_ message: Message) -> Bool {
    let (isOpen, wasEmpty) = contents.withLock { (contents) in
      guard !contents.isClosed else { return (false, false) }
      contents.messages.append(message)
      return (true, contents.messages.count == 1)
    }
    // Whoever posted first has woken the loop for all.
    if wasEmpty { wakeUp.signal() }
    return isOpen
  }

  fileprivate var descriptor: Int32 { wakeUp.descriptor.rawValue }

  fileprivate func takeAll() -> [Message] {
    // Drained first: a message that comes in between is taken now and announced again, never missed.
    wakeUp.drain()
    return contents.withLock { (contents) in
      defer { contents.messages = [] }
      return contents.messages
    }
  }

  fileprivate func close() {
    let lost = contents.withLock { (contents) in
      contents.isClosed = true
      defer { contents.messages = [] }
      return contents.messages
    }
    // Messages may hold anything, so they are let go of outside the lock.
    _ = lost
  }
}

/// The loop's end of an inbox; the inbox closes with it.
private final class Receiver<Message: Sendable> {
  let inbox: Inbox<Message>

  init(_ inbox: Inbox<Message>) {
    self.inbox = inbox
  }

  deinit {
    inbox.close()
  }
}

extension EventLoop {
  /// Opens a way for other threads to reach this one: `handler` is called here with each message posted to the inbox.
  ///
  /// The handler may capture what must not leave this thread. The inbox lasts as long as the loop.
  public func inbox<Message: Sendable>(
    of type: Message.Type = Message.self, _ handler: @escaping (Message) -> Void
  ) throws(LinuxError) -> Inbox<Message> {
    let inbox = try Inbox<Message>()
    try deliver(from: inbox, to: handler)
    return inbox
  }

  func deliver<Message: Sendable>(
    from inbox: Inbox<Message>, to handler: @escaping (Message) -> Void
  ) throws(LinuxError) {
    let receiver = Receiver(inbox)
    try watch(inbox.descriptor) {
      for message in receiver.inbox.takeAll() { handler(message) }
    }
  }
}

/// Runs functions on an event loop's thread on behalf of other threads.
public struct Poster: Sendable {
  enum Message: Sendable {
    case work(@Sendable () -> Void)
    case stop
  }

  let inbox: Inbox<Message>

  /// Has the loop call `work` on its thread, in the order of posting.
  /// - Returns: false when the loop is gone and `work` will not be called.
  @discardableResult
  public func post(_ work: @escaping @Sendable () -> Void) -> Bool {
    inbox.post(.work(work))
  }

  /// Makes the loop's `run` return, after what has been posted before.
  public func stop() {
    inbox.post(.stop)
  }
}
