import CLinux
import Glibc

/// A kernel thread that runs one function.
///
/// What the function captures moves into the thread, so it need not be `Sendable`. Start threads from code that is not
/// isolated to an actor: a closure written in isolated code traps when it runs elsewhere.
public struct Thread: ~Copyable, Sendable {
  private let identifier: pthread_t

  /// Starts the thread.
  /// - Parameter name: for debuggers and `ps -L`; the kernel keeps 15 bytes of it.
  public init(name: String, _ body: sending @escaping () -> Void) throws(LinuxError) {
    let start = unsafe Unmanaged.passRetained(Start(name: name, body: body))
    var identifier: pthread_t = 0
    let number = unsafe pthread_create(&identifier, nil, { unsafe Start.run($0) }, start.toOpaque())
    guard number == 0 else {
      unsafe start.release()
      throw LinuxError(call: "pthread_create", subject: name, number: number)
    }
    self.identifier = identifier
  }

  /// Waits until the function has returned.
  public consuming func join() {
    pthread_join(identifier, nil)
    discard self
  }

  deinit {
    pthread_detach(identifier)
  }

  /// What the new thread finds when it starts.
  private final class Start {
    private let name: String
    private let body: () -> Void

    init(name: String, body: @escaping () -> Void) {
      self.name = name
      self.body = body
    }

    static func run(_ argument: UnsafeMutableRawPointer?) -> UnsafeMutableRawPointer? {
      guard let argument = unsafe argument else { return nil }
      let start = unsafe Unmanaged<Start>.fromOpaque(argument).takeRetainedValue()
      unsafe pthread_setname_np(pthread_self(), String(decoding: start.name.utf8.prefix(15), as: UTF8.self))
      start.body()
      return nil
    }
  }
}
