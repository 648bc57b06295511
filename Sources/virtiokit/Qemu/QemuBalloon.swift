import LinuxIO

/// The balloon that a QEMU's guest has from QEMU: `-device virtio-balloon-pci`.
struct QemuBalloon {
  /// How often it is looked at what the guest has done.
  static let interval = Duration.milliseconds(20)
  /// How long the guest may take to be given memory back, or the rest of what it was asked for.
  private static let changeLimit = Duration.seconds(60)

  let machine: QemuMachine
  /// How long nothing may happen until a guest counts as one that does no more.
  var patience = Duration.seconds(5)

  /// The memory that the guest has, in bytes; nil where it has no balloon.
  var size: UInt64? {
    get throws(QmpError) {
      do throws(QmpError) {
        return try machine.qmp.execute("query-balloon")["actual"]?.number
      } catch {
        guard case .refused = error else { throw error }
        return nil
      }
    }
  }

  /// Lets the guest have so much, and does not wait until it has.
  func set(_ byteCount: UInt64) throws(QmpError) {
    try machine.qmp.execute("balloon", [("value", .number(byteCount))])
  }

  /// Lets the guest have so much, and waits until it has, or does no more.
  /// - Returns: what it has then.
  func change(to byteCount: UInt64, unless cancellation: Cancellation? = nil) throws(QmpError) -> UInt64 {
    try set(byteCount)
    let deadline = MonotonicClock.moment(after: Self.changeLimit)
    var (last, end) = (UInt64.max, deadline)
    return try poll("balloon", within: Self.changeLimit * 2, every: Self.interval, unless: cancellation) {
      () throws(QmpError) in
      let now = try size ?? 0
      if now == byteCount { return now }
      if now != last { (last, end) = (now, min(deadline, MonotonicClock.moment(after: patience))) }
      return MonotonicClock.now < end ? nil : now
    }
  }

  /// What the guest tells of its memory, from now on; nil where QEMU does not say where it keeps that.
  func statistics() throws(QmpError) -> QemuStatistics? {
    guard let device = try devicePath else { return nil }
    return try QemuStatistics(of: device, machine)
  }

  /// Where QEMU keeps the device, which has a name if it was given one.
  private var devicePath: String? {
    get throws(QmpError) {
      for group in ["/machine/peripheral", "/machine/peripheral-anon"] {
        let devices = try machine.qmp.execute("qom-list", [("path", .text(group))]).array ?? []
        let balloon = devices.first { $0["type"]?.text?.hasPrefix("child<virtio-balloon") == true }
        if let name = balloon?["name"]?.text { return "\(group)/\(name)" }
      }
      return nil
    }
  }
}
