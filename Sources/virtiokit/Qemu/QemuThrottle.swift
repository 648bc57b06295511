import LinuxIO

/// Lets a guest run for a share of the time only, by stopping it again and again: QEMU slows its processors down by
/// itself for a migration of its own alone.
final class QemuThrottle: Sendable {
  /// How often it is stopped, in nanoseconds.
  private static let period = 100_000_000.0

  private struct Desk {
    var share: Double
    var isOver = false
    /// Whether the thread does nothing to the guest any more.
    var isGone = false
    /// Why the guest may not run.
    var failure: QmpError?
  }

  private let machine: QemuMachine
  private let desk: Monitor<Desk>
  private let forThread = WakeUp()
  private let forOwner = WakeUp()

  /// - Parameters:
  ///   - machine: one that runs.
  ///   - share: how much of the time it may run, below 1.
  init(_ machine: QemuMachine, share: Double) throws(LinuxError) {
    self.machine = machine
    desk = Monitor(Desk(share: share))
    // It ends by itself once it is told; `end` waits for that.
    _ = try Thread(name: "throttle") { [self] in
      let failure = run()
      desk.withLock { ($0.isGone, $0.failure) = (true, failure) }
      forOwner.wakeAll()
    }
  }

  /// The guest runs for so much of the time from now on.
  func set(_ share: Double) { desk.withLock { $0.share = share } }

  /// Why it has ended by itself.
  var failure: QmpError? { desk.withLock { $0.failure } }

  /// Ends it, and returns once the guest runs all the time.
  /// - Returns: why it may not.
  func end() -> QmpError? {
    desk.withLock { $0.isOver = true }
    forThread.wakeAll()
    let failure = desk.wait(on: forOwner) { (desk) -> QmpError?? in desk.isGone ? .some(desk.failure) : nil }
    return failure ?? nil
  }

  private func run() -> QmpError? {
    do throws(QmpError) {
      while goOn(for: { $0 }) {
        try machine.stop()
        _ = goOn(for: { 1 - $0 })
        try machine.resume()
      }
      return nil
    } catch {
      return error
    }
  }

  /// Waits for a part of the period; false once it is over.
  private func goOn(for part: (_ share: Double) -> Double) -> Bool {
    let nanoseconds = desk.withLock { part($0.share) * Self.period }
    let moment = MonotonicClock.moment(after: .nanoseconds(Int64(nanoseconds)))
    return desk.wait(on: forThread, until: moment) { $0.isOver ? false : nil } ?? true
  }
}
