import LinuxIO

/// The balloon that a QEMU's guest has from QEMU: `-device virtio-balloon-pci`.
struct QemuBalloon {
  /// How long nothing may happen until a guest counts as one that gives no more.
  private static let patience = Duration.seconds(3)
  /// What a guest keeps beyond what it says that it cannot do without, in bytes.
  private static let leastSpare: UInt64 = 48 << 20

  let machine: QemuMachine

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

  /// Asks the guest to shrink, and waits until it has or gives no more.
  /// - Returns: what it has now.
  func shrink(to byteCount: UInt64, unless cancellation: Cancellation) throws(QmpError) -> UInt64 {
    try set(byteCount)
    var (last, end) = (UInt64.max, UInt64.max)
    return try poll("balloon", within: .seconds(600), every: .milliseconds(20), unless: cancellation) {
      () throws(QmpError) in
      let now = try size ?? 0
      if now <= byteCount { return now }
      if now != last { (last, end) = (now, MonotonicClock.moment(after: Self.patience)) }
      return MonotonicClock.now < end ? nil : now
    }
  }

  /// What the guest could do with, by its own statistics: what it has, without what is available, and some more; nil
  /// where it does not tell what is available.
  func sizeEnough(unless cancellation: Cancellation) throws(QmpError) -> UInt64? {
    guard let device = try devicePath, let size = try size else { return nil }
    let interval = [("path", JSON.text(device)), ("property", .text("guest-stats-polling-interval"))]
    try machine.qmp.execute("qom-set", interval + [("value", .number(1))])
    defer {
      // A guest that goes on telling costs next to nothing.
      _ = try? machine.qmp.execute("qom-set", interval + [("value", .number(0))])
    }
    let available = try poll("guest-stats", within: .seconds(10), every: .milliseconds(100), unless: cancellation) {
      () throws(QmpError) -> UInt64? in
      let answer = try machine.get("guest-stats", of: device)
      guard let update = answer["last-update"]?.number, update > 0 else { return nil }
      return answer["stats"]?["stat-available-memory"]?.number
    }
    // QEMU says 2⁶⁴ - 1 for what the driver does not tell.
    guard available <= size else { return nil }
    let needed = size - available
    return min(size, needed + max(Self.leastSpare, needed / 8))
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
