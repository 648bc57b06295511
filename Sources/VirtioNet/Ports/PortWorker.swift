import LinuxIO

/// What a `ThreadedPort`'s thread does.
struct PortWorker: ~Copyable {
  private let port: any PacketPort
  private let exchange: PortExchange
  private let loop: EventLoop
  /// What the port has yet to take.
  private var outgoing = PacketBatch()
  /// What the card has yet to take.
  private var incoming = PacketBatch()

  /// Opens the port, and carries packets until the card wants no more.
  static func run(_ exchange: PortExchange, _ open: () throws(PortError) -> any PacketPort) {
    do throws(PortError) {
      var worker = PortWorker(try open(), exchange, try makeLoop())
      try worker.run()
      exchange.close(nil)
    } catch {
      exchange.close(error)
    }
  }

  private init(_ port: any PacketPort, _ exchange: PortExchange, _ loop: EventLoop) {
    self.port = port
    self.exchange = exchange
    self.loop = loop
  }

  private static func makeLoop() throws(PortError) -> EventLoop {
    do throws(LinuxError) { return try EventLoop() } catch { throw .system("port thread", error) }
  }

  private mutating func run() throws(PortError) {
    do throws(LinuxError) {
      try watch()
      exchange.didOpen(
        PortExchange.Report(
          name: port.name, takenOffloads: port.takenOffloads, counters: port.counters, failure: port.failure))
      while true {
        let orders = exchange.swap(&outgoing, &incoming, port.counters)
        if let offloads = orders.givenOffloads { port.setGivenOffloads(offloads) }
        let hasMoved = carry()
        if orders.isFinishing { finishSending() }
        if orders.isEnd { return }
        if !hasMoved, exchange.prepareToSleep(hasOutgoing: !outgoing.isEmpty, port.failure) { try loop.runOnce() }
      }
    } catch {
      throw .system(port.name, error)
    }
  }

  /// Leaves nothing under way: what the port takes at once goes out.
  private mutating func finishSending() {
    while exchange.takeLast(&outgoing) { port.send(&outgoing) }
  }

  private func watch() throws(LinuxError) {
    try loop.watch(exchange.threadDescriptor, for: [.readable, .onChange]) {}
    guard let descriptor = port.descriptor else { return }
    try loop.watch(descriptor, for: [.readable, .writable, .onChange]) {}
  }

  /// - Returns: whether the port took or gave anything.
  private mutating func carry() -> Bool {
    let count = outgoing.count
    // Also with nothing, while `receive`, which would have the port go on as well, is left out.
    if !outgoing.isEmpty || !incoming.isEmpty { port.send(&outgoing) }
    // What waits for the card is not added to, so that it changes hands as a whole.
    guard incoming.isEmpty else { return outgoing.count < count }
    port.receive(into: &incoming)
    return outgoing.count < count || !incoming.isEmpty
  }
}
