import LinuxIO

/// A connection that is made again when it is lost.
final class NBDLane: Sendable {
  fileprivate struct State {
    var connection: NBDConnection?
    var isConnecting = false
    /// When the next attempt to connect may begin, and how long those after it wait.
    var nextAttempt: UInt64 = 0
    var pause = NBDLane.shortestPause
    /// How many attempts have ended, well or not.
    var attempts: UInt64 = 0
    var lastFailure: NBDError?
  }

  fileprivate enum Step {
    case use(NBDConnection)
    case connect
    case wait(until: UInt64, attempts: UInt64)
  }

  fileprivate static let shortestPause = Duration.milliseconds(100)
  fileprivate static let longestPause = Duration.seconds(5)

  private let address: NBDAddress
  private let options: NBDOptions
  /// What the disk began with.
  private let export: NBDExport
  private let state: Monitor<State>
  private let news = WakeUp()

  /// - Parameter connection: the one to begin with, if there is one.
  init(_ address: NBDAddress, _ options: NBDOptions, _ export: NBDExport, _ connection: NBDConnection?) {
    self.address = address
    self.options = options
    self.export = export
    var state = State()
    state.connection = connection
    self.state = Monitor(state)
  }

  /// Carries out an exchange, again on another connection whenever one is lost.
  ///
  /// Doing it again is safe: nobody has seen a reply, and each request does the same when it is done twice.
  func perform(_ exchange: (NBDConnection) throws(StoreError) -> Void) throws(StoreError) {
    var patience = Patience(limit: options.reconnectLimit)
    while true {
      let connection = try connection(&patience)
      do throws(StoreError) {
        return try exchange(connection)
      } catch {
        guard case .nbd(let failure) = error, failure.isTransient else { throw error }
        state.withLock { $0.lastFailure = failure }
        try check(&patience)
      }
    }
  }

  /// How long one request waits for connections; it begins when the first is missing.
  private struct Patience {
    let limit: Duration
    lazy var end = MonotonicClock.moment(after: limit)
  }

  private func check(_ patience: inout Patience) throws(StoreError) {
    guard MonotonicClock.now >= patience.end else { return }
    throw .nbd(.gaveUp(state.withLock { $0.lastFailure } ?? .closed))
  }

  /// A connection that works as far as anybody knows. One of those who need it makes it, and the others wait.
  private func connection(_ patience: inout Patience) throws(StoreError) -> NBDConnection {
    while true {
      switch state.withLock({ $0.step() }) {
      case .use(let connection): return connection
      case .connect:
        if let connection = try connect() { return connection }
      case .wait(let moment, let attempts):
        _ = state.wait(on: news, until: min(moment, patience.end)) { (state) in
          state.attempts == attempts ? nil : true
        }
      }
      try check(&patience)
    }
  }

  /// - Returns: nil when that failed in a way that may pass.
  private func connect() throws(StoreError) -> NBDConnection? {
    let result: Result<NBDConnection, NBDError>
    do throws(NBDError) {
      let connection = try NBDConnection(to: address, within: options.requestLimit)
      try connection.export.check(against: export)
      result = .success(connection)
    } catch {
      result = .failure(error)
    }
    state.withLock { $0.settle(result) }
    news.wakeAll()
    switch result {
    case .success(let connection): return connection
    case .failure(let error):
      guard error.isTransient else { throw .nbd(error) }
      return nil
    }
  }
}

extension NBDLane.State {
  fileprivate mutating func step() -> NBDLane.Step {
    if let connection, connection.isUsable { return .use(connection) }
    guard !isConnecting else { return .wait(until: .max, attempts: attempts) }
    // A server that answered was well, so that one attempt to find it again is due at once.
    if connection?.hasAnswered == true {
      nextAttempt = 0
      pause = NBDLane.shortestPause
    }
    connection = nil
    guard MonotonicClock.now >= nextAttempt else { return .wait(until: nextAttempt, attempts: attempts) }
    isConnecting = true
    nextAttempt = MonotonicClock.moment(after: pause)
    pause = min(pause * 2, NBDLane.longestPause)
    return .connect
  }

  fileprivate mutating func settle(_ result: Result<NBDConnection, NBDError>) {
    isConnecting = false
    attempts += 1
    switch result {
    case .success(let connection): self.connection = connection
    case .failure(let error): lastFailure = error
    }
  }
}
