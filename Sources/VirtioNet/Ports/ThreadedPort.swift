import LinuxIO

/// A port that another thread uses, so that its system calls cost the card's thread nothing.
///
/// Whole batches change hands as a rule, without being copied. One waits in each direction at most: a card that is
/// faster than the port keeps its packets, and a port that is faster than the card leaves them where they are.
public final class ThreadedPort: PacketPort {
  private let exchange: PortExchange
  private var thread: Thread?
  public let name: String
  public let takenOffloads: Offloads

  /// Starts the thread, and waits until it has opened the port.
  /// - Parameters:
  ///   - threadName: for debuggers and `ps -L`; the kernel keeps 15 bytes of it.
  ///   - open: makes the port, on the thread that it then stays on.
  /// - Throws: what `open` throws, and `system`.
  public init(
    threadName: String, _ open: @escaping @Sendable () throws(PortError) -> any PacketPort
  ) throws(PortError) {
    let exchange: PortExchange
    let thread: Thread
    do throws(LinuxError) {
      exchange = try PortExchange()
      thread = try Thread(name: threadName) { PortWorker.run(exchange, open) }
    } catch {
      throw .system(threadName, error)
    }
    if let error = exchange.waitForOpening() { throw error }
    let report = exchange.report
    name = report.name
    takenOffloads = report.takenOffloads
    self.exchange = exchange
    self.thread = consume thread
  }

  /// Has the port sent what it takes of what it was handed, and ends it with its thread.
  deinit {
    exchange.end()
    if let thread = thread.take() { thread.join() }
  }

  /// The port's thread obeys before it asks for more packets; those that it has given already come as they are.
  public func setGivenOffloads(_ offloads: Offloads) { exchange.setGivenOffloads(offloads) }

  public var descriptor: Int32? { exchange.descriptor }

  public func send(_ batch: inout PacketBatch) { exchange.send(&batch) }

  public func receive(into batch: inout PacketBatch) { exchange.receive(into: &batch) }

  /// Waits for the thread, for as long as one batch takes.
  public func finishSending() { exchange.finishSending() }

  /// As of a moment ago.
  public var counters: PortCounters { exchange.report.counters }

  public var failure: PortError? { exchange.failure }
}
