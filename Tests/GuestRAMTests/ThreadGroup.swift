import LinuxIO

/// Threads that run one function, each with its index.
final class ThreadGroup {
  private var last: Thread?
  private let others: ThreadGroup?

  init(_ count: Int, _ body: @escaping @Sendable (Int) -> Void) throws {
    others = count > 1 ? try ThreadGroup(count - 1, body) : nil
    last = try Thread(name: "test") { body(count - 1) }
  }

  /// Waits until all of them have returned.
  func join() {
    last.take()?.join()
    others?.join()
  }
}
