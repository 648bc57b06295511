import Balloon
import LinuxIO

/// What a QEMU's guest tells of its memory (5.5.6.3), which QEMU asks it for each second while somebody looks.
struct QemuStatistics {
  private static let intervalName = "guest-stats-polling-interval"

  private let machine: QemuMachine
  private let device: String
  /// How often QEMU asked before, in seconds; 0 for never.
  private let earlierInterval: UInt64
  private var lookedAt = MonotonicClock.now
  /// The second, by QEMU's clock, of the last report; 0 for none.
  private var lastUpdate: UInt64 = 0
  /// The last report that has come since the beginning, and a moment that it is younger than.
  private var report: (stats: JSON, after: UInt64)?

  /// - Parameter device: where QEMU keeps the balloon.
  init(of device: String, _ machine: QemuMachine) throws(QmpError) {
    (self.device, self.machine) = (device, machine)
    earlierInterval = try machine.get(Self.intervalName, of: device).number ?? 0
    try look()
    // What was told before the beginning says nothing of now.
    report = nil
    try setInterval(1)
  }

  /// Has QEMU ask as often as it did before.
  func end() {
    // A guest that goes on telling costs next to nothing.
    try? setInterval(earlierInterval)
  }

  /// Takes in what has come since.
  mutating func look() throws(QmpError) {
    let before = lookedAt
    lookedAt = MonotonicClock.now
    let answer: JSON
    do throws(QmpError) {
      answer = try machine.get("guest-stats", of: device)
    } catch {
      // Some say so when there is none yet.
      guard case .refused = error else { throw error }
      return
    }
    guard let update = answer["last-update"]?.number, update != lastUpdate, let stats = answer["stats"] else { return }
    (lastUpdate, report) = (update, (stats, after: before))
  }

  /// Waits for a report.
  /// - Returns: the memory that is available by it, in bytes; nil if none comes in time, or it does not tell that.
  mutating func nextAvailable(
    within limit: Duration, unless cancellation: Cancellation
  ) throws(QmpError) -> UInt64? {
    let (known, end) = (lastUpdate, MonotonicClock.moment(after: limit))
    _ = try poll("guest-stats", within: limit * 2, every: QemuBalloon.interval, unless: cancellation) {
      () throws(QmpError) in
      try look()
      return lastUpdate != known || MonotonicClock.now >= end ? true : nil
    }
    return lastUpdate == known ? nil : value("stat-available-memory")
  }

  /// What there is to see, with what the balloon has.
  /// - Parameter pageCount: what is in the balloon.
  func observation(pageCount: UInt32) -> BalloonObservation {
    let now = MonotonicClock.now
    let available = value("stat-available-memory").map { StatisticReading.fresh($0, age: now - (report?.after ?? 0)) }
    return BalloonObservation(
      time: now, pageCount: pageCount, available: available ?? .neverReported,
      outOfMemoryKills: value("stat-oom-kills"), swappedOutByteCount: value("stat-swap-out"))
  }

  private func value(_ name: String) -> UInt64? {
    // QEMU says 2⁶⁴ - 1 for what the driver does not tell.
    report?.stats[name]?.number.flatMap { $0 == .max ? nil : $0 }
  }

  private func setInterval(_ seconds: UInt64) throws(QmpError) {
    try machine.qmp.execute(
      "qom-set", [("path", .text(device)), ("property", .text(Self.intervalName)), ("value", .number(seconds))])
  }
}
