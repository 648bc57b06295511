import LinuxIO
import SimulatedGuest
import Support
import Synchronization

/// A thread that runs a guest, step by step, and does between two steps what others ask.
final class GuestRunner: Sendable {
  private enum Order { case run, pause, end }

  private struct Desk {
    var order: Order
    var isPaused = false
    var stepCount: UInt64 = 0
    var failure: String?
    var work: [@Sendable (inout Guest) -> Void] = []
  }

  private enum Turn {
    case work([@Sendable (inout Guest) -> Void])
    case step, end
  }

  /// How long a guest rests after a step, in nanoseconds, so that everybody else gets the processor.
  private static let restNanoseconds: UInt64 = 100_000
  private let desk: Monitor<Desk>
  private let forRunner = WakeUp()
  private let forOthers = WakeUp()
  private let thread = Mutex<Thread?>(nil)

  /// - Parameters:
  ///   - isPaused: whether the guest waits for `resume`.
  ///   - make: makes the guest, on its thread.
  init(isPaused: Bool, _ make: @escaping @Sendable () throws -> Guest) throws {
    desk = Monitor(Desk(order: isPaused ? .pause : .run))
    let made = try Handover<String?>()
    let new = try Thread(name: "guest") { [self] in
      do {
        let guest = try make()
        made.put(nil)
        live(guest)
      } catch {
        made.put("\(error)")
      }
    }
    keep(new)
    if let failure = made.wait() { throw MoveFailure(failure) }
  }

  private func keep(_ new: consuming Thread) {
    var new: Thread? = consume new
    thread.withLock { $0 = new.take() }
  }

  private func live(_ made: Guest) {
    var guest = made
    while true {
      switch nextTurn() {
      case .end: return
      case .work(let work): for work in work { work(&guest) }
      case .step: step(&guest)
      }
    }
  }

  private func nextTurn() -> Turn {
    desk.wait(on: forRunner) { (desk) -> Turn? in
      guard desk.work.isEmpty else {
        defer { desk.work = [] }
        return .work(desk.work)
      }
      desk.isPaused = desk.order == .pause || desk.failure != nil
      forOthers.wakeAll()
      if desk.order == .end { return .end }
      return desk.isPaused ? nil : .step
    } ?? .end
  }

  private func step(_ guest: inout Guest) {
    do {
      try guest.step()
      desk.withLock { $0.stepCount += 1 }
    } catch {
      desk.withLock { $0.failure = "\(error)" }
    }
    _ = desk.wait(on: forRunner, until: MonotonicClock.now + Self.restNanoseconds) { (desk) -> Bool? in
      desk.order == .run && desk.work.isEmpty ? nil : true
    }
  }

  /// Stops the guest, and returns once it stands still.
  func pause() throws {
    give(.pause)
    try wait { $0.isPaused }
  }

  func resume() { give(.run) }

  /// Ends the thread; the guest goes with it.
  func end() {
    give(.end)
    if let thread = thread.withLock({ $0.take() }) { thread.join() }
  }

  /// Returns once the guest has done so many more steps.
  func waitForSteps(_ count: UInt64) throws {
    let target = desk.withLock { $0.stepCount + count }
    try wait { $0.stepCount >= target }
  }

  /// Returns once something is so, which is looked at between two steps.
  func wait(until isSo: @escaping @Sendable (inout Guest) throws -> Bool) throws -> Bool {
    let end = MonotonicClock.moment(after: patience)
    while MonotonicClock.now < end {
      if try ask(isSo) { return true }
      try waitForSteps(1)
    }
    return false
  }

  /// Does something with the guest between two steps, or while it stands still.
  func ask<Answer: Sendable>(_ body: @escaping @Sendable (inout Guest) throws -> Answer) throws -> Answer {
    let answer = try Handover<Result<Answer, MoveFailure>>()
    desk.withLock { desk in
      desk.work.append { guest in
        answer.put(Result { try body(&guest) }.mapError { MoveFailure("\($0)") })
      }
    }
    forRunner.wakeAll()
    return try answer.wait().get()
  }

  private func give(_ order: Order) {
    desk.withLock { $0.order = order }
    forRunner.wakeAll()
  }

  private func wait(until isSo: (Desk) -> Bool) throws {
    let end = MonotonicClock.moment(after: patience)
    let outcome = desk.wait(on: forOthers, until: end) { (desk) -> String?? in
      if let failure = desk.failure { return .some(failure) }
      return isSo(desk) ? .some(nil) : nil
    }
    guard let outcome else { throw MoveFailure("the guest does nothing") }
    if let outcome { throw MoveFailure(outcome) }
  }
}

/// Why something did not go as it should, on another thread.
struct MoveFailure: Error, CustomStringConvertible {
  let description: String

  init(_ description: String) {
    self.description = description
  }
}
