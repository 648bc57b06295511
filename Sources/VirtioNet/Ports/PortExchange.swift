import LinuxIO

/// What passes between a `ThreadedPort`'s card and its thread.
final class PortExchange: Sendable {
  /// What the card is told of the port.
  struct Report: Sendable {
    var name = ""
    var takenOffloads: Offloads = []
    var counters = PortCounters()
    var failure: PortError?
  }

  /// What the thread is asked to do.
  struct Orders {
    var givenOffloads: Offloads?
    var isFinishing = false
    var isEnd = false

    var isEmpty: Bool { givenOffloads == nil && !isFinishing && !isEnd }
  }

  fileprivate struct State: ~Copyable {
    /// From the card.
    var outgoing = PacketBatch()
    /// To the card.
    var incoming = PacketBatch()
    var orders = Orders()
    var report = Report()
    /// The card has packets that did not fit.
    var isRoomAwaited = false
    /// The card has found nothing.
    var arePacketsAwaited = true
    /// The thread has packets that did not fit.
    var isThreadBlocked = false
    /// The thread waits for its sign.
    var isThreadAsleep = false
    /// Nobody is there to take packets any more.
    var isOver = false
    /// How many packets were dropped since then.
    var lateCount: UInt64 = 0
    /// How many packets the port had no room for when it was to finish.
    var leftCount: UInt64 = 0
  }

  private let state = Monitor(State())
  private let cardSign: Eventfd
  private let threadSign: Eventfd
  private let opening: Semaphore
  private let finished = WakeUp()

  init() throws(LinuxError) {
    cardSign = try Eventfd()
    threadSign = try Eventfd()
    opening = try Semaphore()
  }
}

/// The card's side.
extension PortExchange {
  var descriptor: Int32 { cardSign.descriptor.rawValue }

  var report: Report {
    state.withLock { state in
      var report = state.report
      report.counters.drop(.portFailed, state.lateCount)
      report.counters.drop(.noReceiver, state.leftCount)
      return report
    }
  }

  /// Asked for with every batch, unlike the rest of the report.
  var failure: PortError? { state.withLock { $0.report.failure } }

  /// Waits until the port is open.
  /// - Returns: why it is not.
  func waitForOpening() -> PortError? {
    opening.wait()
    return state.withLock { $0.isOver ? $0.report.failure : nil }
  }

  /// Takes over what there is room for.
  func send(_ batch: inout PacketBatch) {
    let isNews = state.withLock { state in
      guard !state.isOver else {
        state.lateCount &+= UInt64(batch.count)
        batch.removeAll()
        return false
      }
      state.outgoing.takePackets(of: &batch)
      state.isRoomAwaited = !batch.isEmpty
      return state.wakesThread()
    }
    if isNews { threadSign.signal() }
  }

  /// Hands over what the thread has left.
  func receive(into batch: inout PacketBatch) {
    let isNews = state.withLock { state in
      batch.takePackets(of: &state.incoming)
      state.arePacketsAwaited = state.incoming.isEmpty
      return state.isThreadBlocked && state.incoming.isEmpty && state.wakesThread()
    }
    if isNews { threadSign.signal() }
  }

  func setGivenOffloads(_ offloads: Offloads) {
    order { $0.givenOffloads = offloads }
  }

  /// Waits until the thread has passed on what it was sent, or dropped it.
  func finishSending() {
    order { $0.isFinishing = true }
    _ = state.wait(on: finished) { $0.isOver || !$0.orders.isFinishing ? true : nil }
  }

  func end() {
    order { $0.isEnd = true }
  }

  private func order(_ change: (inout Orders) -> Void) {
    let isNews = state.withLock { state in
      change(&state.orders)
      return state.wakesThread()
    }
    if isNews { threadSign.signal() }
  }
}

/// The thread's side.
extension PortExchange {
  /// Gives the thread its signs.
  var threadDescriptor: Int32 { threadSign.descriptor.rawValue }

  func didOpen(_ report: Report) {
    state.withLock { $0.report = report }
    opening.signal()
  }

  /// Nothing is taken any more.
  func close(_ failure: PortError?) {
    state.withLock { state in
      state.report.failure = failure
      state.isOver = true
      state.lateCount &+= UInt64(state.outgoing.count)
      state.outgoing.removeAll()
    }
    cardSign.signal()
    opening.signal()
    finished.wakeAll()
  }

  /// Takes what the card has sent once all before it has gone, hands over what has come, and takes the card's orders.
  func swap(_ outgoing: inout PacketBatch, _ incoming: inout PacketBatch, _ counters: PortCounters) -> Orders {
    let (orders, isNews) = state.withLock { state in
      state.report.counters = counters
      var isNews = false
      if outgoing.isEmpty, !state.outgoing.isEmpty {
        outgoing.takePackets(of: &state.outgoing)
        isNews = state.isRoomAwaited
        state.isRoomAwaited = false
      }
      state.incoming.takePackets(of: &incoming)
      state.isThreadBlocked = !incoming.isEmpty
      if state.arePacketsAwaited, !state.incoming.isEmpty {
        isNews = true
        state.arePacketsAwaited = false
      }
      defer { state.orders.givenOffloads = nil }
      return (state.orders, isNews)
    }
    if isNews { cardSign.signal() }
    return orders
  }

  /// Drops what the port had no room for, and takes what the card has sent last.
  /// - Returns: false when that is nothing, and the card, which waits for it, may go on.
  func takeLast(_ outgoing: inout PacketBatch) -> Bool {
    let hasMore = state.withLock { state in
      state.leftCount &+= UInt64(outgoing.count)
      outgoing.removeAll()
      outgoing.takePackets(of: &state.outgoing)
      state.orders.isFinishing = !outgoing.isEmpty
      return !outgoing.isEmpty
    }
    if !hasMore { finished.wakeAll() }
    return hasMore
  }

  /// Has the thread be woken from now on.
  /// - Returns: false when it must not sleep, since there is something for it to do.
  func prepareToSleep(hasOutgoing: Bool, _ failure: PortError?) -> Bool {
    let (maySleep, isNews) = state.withLock { state in
      let isNews = state.report.failure != failure
      state.report.failure = failure
      let hasWork = !hasOutgoing && !state.outgoing.isEmpty || state.isThreadBlocked && state.incoming.isEmpty
      state.isThreadAsleep = !hasWork && state.orders.isEmpty
      return (state.isThreadAsleep, isNews)
    }
    if isNews { cardSign.signal() }
    return maySleep
  }
}

extension PortExchange.State {
  /// Whether the thread has to be given a sign, which is then left to the caller.
  fileprivate mutating func wakesThread() -> Bool {
    defer { isThreadAsleep = false }
    return isThreadAsleep
  }
}

extension PacketBatch {
  /// Adds another batch's packets, as many as there is room for, and takes them off it. Into nothing, they change hands.
  mutating func takePackets(of other: inout PacketBatch) {
    guard !other.isEmpty else { return }
    if isEmpty, bytes.count == other.bytes.count { return Swift.swap(&self, &other) }
    var count = 0
    while count < other.count, append(packet: count, of: other) { count += 1 }
    other.removeFirst(count)
  }
}
