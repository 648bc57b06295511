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

  private struct State {
    var order = Order.step(share: 1)
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

  /// Waits until a moment of `MonotonicClock`, or until there is another order than the one that was carried out.
  func rest(until moment: UInt64, after done: Order) {
    _ = state.wait(on: forRunner, until: moment) { (state) in state.order == done ? nil : true }
  }

  // MARK: - The thread that moves it

  func pause() throws(MigrationError) -> [UInt8] {
    give(.pause)
    let saved = state.wait(on: forMover) { (state) in state.saved.take() }
    guard let saved else { throw .guest("the guest did not stop") }
    return try saved.get()
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
  private var tracker: WriteTracker?

  init(_ memory: GuestMemory, _ desk: GuestDesk) {
    self.memory = memory
    self.desk = desk
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
  }

  mutating func pause() throws(MigrationError) -> [UInt8] { try desk.pause() }
  mutating func resume() { desk.give(.step(share: 1)) }
  mutating func slowDown(to share: Double) { desk.give(.step(share: share)) }
}
