public import LinuxIO
import Synchronization

/// The thread that a device lives on. Whoever is elsewhere sends it work and, if need be, waits for the answer.
public final class DeviceThread<Device: VirtioDevice & ~Copyable>: Sendable {
  /// Something to do with the host, on its thread.
  public typealias Work = @Sendable (inout DeviceHost<Device>) -> Void

  enum Message: Sendable {
    case work(Work)
    case await(QuietWait)
    case stop
  }

  let inbox: Inbox<Message>
  private let thread: Mutex<Thread?>
  /// The queues that a posted kick is still to look at.
  private let kicked = Mutex<Set<Int>>([])

  private final class Home {
    var host: DeviceHost<Device>
    /// Those who wait until the paused device has nothing under way.
    var waiting: [QuietWait] = []

    init(_ host: consuming DeviceHost<Device>) {
      self.host = host
    }

    func tellIfQuiet() {
      guard !waiting.isEmpty, host.isPaused, host.isQuiet else { return }
      for wait in waiting { wait.end(.quiet) }
      waiting = []
    }
  }

  /// Starts the thread and makes the device on it.
  ///
  /// - Parameters:
  ///   - name: for debuggers and `ps -L`; the kernel keeps 15 bytes of it.
  ///   - make: called on the new thread, once, with its event loop, for backends to watch their descriptors.
  public convenience init(
    name: String, _ make: @escaping @Sendable (EventLoop) -> DeviceHost<Device>
  ) throws(LinuxError) {
    try self.init(name: name) { (loop, _) in make(loop) }
  }

  /// Starts the thread and makes a device on it whose backends have news.
  ///
  /// - Parameters:
  ///   - name: for debuggers and `ps -L`; the kernel keeps 15 bytes of it.
  ///   - make: called on the new thread, once, with its event loop and with what has the device woken soon: backends call
  ///     that on any thread, for as long as they like. What it throws is thrown here.
  public init(
    name: String,
    _ make:
      @escaping @Sendable (EventLoop, _ wake: @escaping @Sendable () -> Void) throws(LinuxError) -> DeviceHost<Device>
  ) throws(LinuxError) {
    let ready = try Handover<Result<Inbox<Message>, LinuxError>>()
    let thread = try Thread(name: name) { Self.live(make, ready) }
    switch ready.wait() {
    case .success(let inbox):
      self.inbox = inbox
      self.thread = Mutex(thread)
    case .failure(let error):
      thread.join()
      throw error
    }
  }

  private static func live(
    _ make: (EventLoop, @escaping @Sendable () -> Void) throws(LinuxError) -> DeviceHost<Device>,
    _ ready: Handover<Result<Inbox<Message>, LinuxError>>
  ) {
    do throws(LinuxError) {
      let loop = try EventLoop()
      let line = NewsLine<Device>()
      let home = Home(try make(loop) { line.wake() })
      // The handler is the loop's own and is never called without it.
      let inbox = try loop.inbox(of: Message.self) { [unowned loop] message in
        switch message {
        case .work(let work): work(&home.host)
        case .await(let wait): home.waiting.append(wait)
        case .stop: loop.stop()
        }
        home.tellIfQuiet()
      }
      line.connect(inbox)
      ready.put(.success(inbox))
      try loop.run()
    } catch {
      ready.put(.failure(error))
    }
  }

  /// Sends work to the device's thread and does not wait. False when the thread has ended.
  @discardableResult
  public func post(_ work: @escaping Work) -> Bool {
    inbox.post(.work(work))
  }

  /// The driver made buffers available on a queue. Kicks that come while one of the queue's waits are one with it.
  public func kick(_ index: Int) {
    guard kicked.withLock({ $0.insert(index).inserted }) else { return }
    post { [weak self] host in
      // Taken back before the queue is looked at, so that a kick in between is not missed.
      _ = self?.kicked.withLock { $0.remove(index) }
      // A driver that never pauses gets its turn again behind whatever else was posted.
      if host.kick(index) { self?.kick(index) }
    }
  }

  /// Does something on the device's thread and waits for what comes of it; nil when the thread has ended.
  ///
  /// Not to be called from the device's thread itself.
  public func call<Answer: Sendable>(
    _ work: @escaping @Sendable (inout DeviceHost<Device>) -> Answer
  ) throws(LinuxError) -> Answer? {
    let answer = try Handover<Answer?>()
    post(Self.answering(Slip(answer), work))
    return answer.wait()
  }

  /// Only what is posted holds the slip.
  private static func answering<Answer: Sendable>(
    _ slip: Slip<Answer>, _ work: @escaping @Sendable (inout DeviceHost<Device>) -> Answer
  ) -> Work {
    { host in slip.answer.put(work(&host)) }
  }

  /// Answers with nothing when work is dropped undone, so that nobody waits for a thread that has ended.
  private final class Slip<Answer: Sendable>: Sendable {
    let answer: Handover<Answer?>

    init(_ answer: Handover<Answer?>) {
      self.answer = answer
    }

    deinit {
      answer.put(nil)
    }
  }

  /// Ends the thread after what was posted before, and waits for it. The device goes with it.
  public func stop() {
    inbox.post(.stop)
    if let thread = thread.withLock({ $0.take() }) { thread.join() }
  }

  /// Ends the thread like `stop`, without waiting: the last owner may be the thread itself.
  deinit {
    inbox.post(.stop)
  }
}
