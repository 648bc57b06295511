import DeviceState
import GuestRAM
import LinuxIO
import Migration

/// A guest of QEMU's that is given away, running or paused.
///
/// Nobody tells us what its processor and its devices write, as they are of other processes: that is found by comparing
/// its memory with what was sent.
struct QemuGuest: LiveGuest {
  /// What QEMU takes to save its devices and to load them, about.
  static let stateSeconds = 0.04

  let memory: GuestMemory
  let sentPages: SentPages?
  /// What went wrong when the guest was to run on here.
  private(set) var failureToResume: QmpError?
  private(set) var pausedAt: UInt64?
  private let machine: QemuMachine
  private let orders: QemuState.Orders
  private var throttle: QemuThrottle?
  /// Whether a destination may have loaded it, which its QEMU then announces to the network.
  private var wasSaved = false

  /// - Parameter orders: what the destination is to do with the guest.
  init(_ machine: QemuMachine, memory: GuestMemory, orders: QemuState.Orders) {
    self.machine = machine
    self.memory = memory
    self.orders = orders
    sentPages = SentPages(memory)
  }

  var pauseSeconds: Double { (sentPages?.lookSeconds ?? 0) + Self.stateSeconds }

  mutating func beginTracking() throws(MigrationError) { _ = try sentPages?.takeWrites() }
  mutating func takeWrites() throws(MigrationError) -> [GuestRange] { try sentPages?.takeWrites() ?? [] }
  mutating func endTracking() {}

  mutating func pause() throws(MigrationError) -> [UInt8] {
    endThrottle()
    pausedAt = MonotonicClock.now
    do {
      if let failureToResume { throw failureToResume }
      try machine.stop()
      let state = try machine.saveState()
      wasSaved = true
      return try QemuState(orders: orders, stream: state).encoded()
    } catch {
      throw .guest("the guest cannot be saved: \(error)")
    }
  }

  mutating func resume() {
    endThrottle()
    var failure: QmpError?
    do throws(QmpError) { try machine.abandonState() } catch { failure = error }
    if orders.runs {
      // Whatever has become of its state: only a guest that is told to run does.
      do throws(QmpError) {
        try machine.resume()
        failure = nil
      } catch {
        failure = failure ?? error
      }
    }
    failureToResume = failure
    if wasSaved, orders.runs, failure == nil { announce() }
  }

  /// The network is told that the guest is here, whatever another place has told it.
  private func announce() {
    do throws(QmpError) {
      try machine.announce()
    } catch {
      // It runs all the same, and is found again with the first packet that it sends.
      Terminal.complain("QEMU does not tell the network that the guest is still here: \(error)")
    }
  }

  mutating func slowDown(to share: Double) {
    if share >= 1 { return endThrottle() }
    if let throttle { return throttle.set(share) }
    do throws(LinuxError) {
      throttle = try QemuThrottle(machine, share: share)
    } catch {
      // It then runs as fast as it did: the move may take longer, and says so.
      throttle = nil
    }
  }

  private mutating func endThrottle() {
    if let failure = throttle?.end() { failureToResume = failure }
    throttle = nil
  }
}
