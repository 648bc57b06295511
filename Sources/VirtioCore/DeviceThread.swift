public import LinuxIO
import Synchronization

/// The thread that a device lives on. Whoever is elsewhere sends it work and, if need be, waits for the answer.
public final class DeviceThread<Device: VirtioDevice & ~Copyable>: Sendable {
  /// Something to do with the host, on its thread.
  public typealias Work = @Sendable (inout DeviceHost<Device>) -> Void

  private let inbox: Inbox<Work>
  private let poster: Poster
  private let thread: Mutex<Thread?>

  private final class Home {
    var host: DeviceHost<Device>

    init(_ host: consuming DeviceHost<Device>) {
      self.host = host
    }
  }

  /// Starts the thread and makes the device on it.
  ///
  /// - Parameters:
  ///   - name: for debuggers and `ps -L`; the kernel keeps 15 bytes of it.
  ///   - make: called on the new thread, once, with its event loop, for backends to watch their descriptors.
  public init(
    name: String, _ make: @escaping @Sendable (EventLoop) -> DeviceHost<Device>
  ) throws(LinuxError) {
    let ready = try Handover<Result<(Inbox<Work>, Poster), LinuxError>>()
    let thread = try Thread(name: name) { Self.live(make, ready) }
    switch ready.wait() {
    case .success(let (inbox, poster)):
      self.inbox = inbox
      self.poster = poster
      self.thread = Mutex(thread)
    case .failure(let error):
      thread.join()
      throw error
    }
  }

  private static func live(
    _ make: (EventLoop) -> DeviceHost<Device>, _ ready: Handover<Result<(Inbox<Work>, Poster), LinuxError>>
  ) {
    do throws(LinuxError) {
      let loop = try EventLoop()
      let home = Home(make(loop))
      let inbox = try loop.inbox(of: Work.self) { work in work(&home.host) }
      ready.put(.success((inbox, loop.poster)))
      try loop.run()
    } catch {
      ready.put(.failure(error))
    }
  }

  /// Sends work to the device's thread and does not wait. False when the thread has ended.
  @discardableResult
  public func post(_ work: @escaping Work) -> Bool {
    inbox.post(work)
  }

  /// The driver made buffers available on a queue.
  public func kick(_ index: Int) {
    post { [weak self] host in
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
    poster.stop()
    if let thread = thread.withLock({ $0.take() }) { thread.join() }
  }
}
