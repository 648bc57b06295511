import GuestRAM
import LinuxIO
import Migration

/// Where the thread that runs a guest and the thread that moves it meet.
final class GuestDesk: Sendable {
  /// What the thread that runs the guest is to do next.
  enum Order: Equatable {
    /// Run the guest for a step, in this share of the time.
    case step(share: Double)
    /// Stop the guest, save it, and hand the state in.
    case pause
    /// The guest has gone, or nobody knows where it is.
    case end
  }

  /// What the balloon is to do about the guest's free pages.
  enum HintOrder {
    /// Ask the guest for them.
    case start
    /// No more are of use. The guest leaves those named alone.
    case stop
    /// The guest may use all of its pages.
    case finish
  }

  private struct State {
    var order = Order.step(share: 1)
    var hintOrders: [HintOrder] = []
    var hints: [GuestRange] = []
    var saved: Result<[UInt8], MigrationError>?
    var note: String?
  }

  private let state = Monitor(State())
  private let forRunner = WakeUp()
  private let forMover = WakeUp()

  // MARK: - The thread that runs the guest

  /// What to do now.
  var order: Order { state.withLock { $0.order } }

  /// Hands in the state of the paused guest, and waits for what is to become of it.
  /// - Returns: whether the guest is to run on here.
  func handIn(_ saved: Result<[UInt8], MigrationError>) -> Bool {
    state.withLock { $0.saved = saved }
    forMover.wakeAll()
    let order = state.wait(on: forRunner) { (state) in state.order == .pause ? nil : state.order }
    return order != .end
  }

  /// The last thing that was noted and has not been read yet.
  func takeNote() -> String? { state.withLock { $0.note.take() } }

  /// What is to be done about free pages, in this order.
  func takeHintOrders() -> [HintOrder] {
    state.withLock { (state) in
      defer { state.hintOrders = [] }
      return state.hintOrders
    }
  }

  /// Hands in pages that the guest has named as free.
  func add(_ hints: [GuestRange]) {
    guard !hints.isEmpty else { return }
    state.withLock { $0.hints += hints }
  }

  /// Waits until a moment of `MonotonicClock`, or until there is another order than the one that was carried out.
  func rest(until moment: UInt64, after done: Order) {
    _ = state.wait(on: forRunner, until: moment) { (state) in state.order == done ? nil : true }
  }

  // MARK: - The thread that moves it

  /// How long the guest may take for a step, in nanoseconds, and then to be saved.
  private static let patience: UInt64 = 30_000_000_000

  func pause() throws(MigrationError) -> [UInt8] {
    give(.pause)
    let saved = state.wait(on: forMover, until: MonotonicClock.now + Self.patience) { (state) in state.saved.take() }
    guard let saved else { throw .guest("the guest did not stop within 30 seconds") }
    return try saved.get()
  }

  func give(_ order: HintOrder) {
    state.withLock { $0.hintOrders.append(order) }
  }

  func takeHints() -> [GuestRange] {
    state.withLock { (state) in
      defer { state.hints = [] }
      return state.hints
    }
  }

  /// Leaves word of what becomes of the move.
  func note(_ text: String) { state.withLock { $0.note = text } }

  func give(_ order: Order) {
    state.withLock { $0.order = order }
    forRunner.wakeAll()
  }
}

/// The engine's side of a guest that another thread runs.
struct DeskGuest: LiveGuest {
  let memory: GuestMemory
  let desk: GuestDesk
  /// Whether the guest is asked for its free pages.
  private let usesHints: Bool
  private var tracker: WriteTracker?

  init(_ memory: GuestMemory, _ desk: GuestDesk, usesHints: Bool) {
    self.memory = memory
    self.desk = desk
    self.usesHints = usesHints
  }

  mutating func beginTracking() throws(MigrationError) {
    do throws(GuestMemoryError) { tracker = try WriteTracker(memory) } catch { throw .memory(error) }
  }

  mutating func takeWrites() throws(MigrationError) -> [GuestRange] {
    var ranges: [GuestRange] = []
    do throws(GuestMemoryError) { try tracker?.collect { ranges.append($0) } } catch { throw .memory(error) }
    return ranges
  }

  mutating func endTracking() {
    tracker?.stop()
    tracker = nil
    if usesHints { desk.give(.finish) }
  }

  mutating func beginHints() {
    if usesHints { desk.give(.start) }
  }

  mutating func takeHints() -> [GuestRange] { desk.takeHints() }

  mutating func endHints() {
    if usesHints { desk.give(.stop) }
  }

  mutating func pause() throws(MigrationError) -> [UInt8] { try desk.pause() }
  mutating func resume() { desk.give(.step(share: 1)) }
  mutating func slowDown(to share: Double) { desk.give(.step(share: share)) }
}
