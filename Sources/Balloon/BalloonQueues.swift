public import DeviceState
public import VirtioCore

/// Which virtqueue does what, as the driver and this device agree on it (5.5.2).
///
/// The specification gives each queue a fixed number. Linux counts: a queue whose feature was not negotiated is left
/// out and those after it move up. With all features negotiated both are the same.
public struct BalloonQueues: Equatable, Sendable {
  /// What a queue is for, by the number that 5.5.2 gives it.
  public enum Role: Int, CaseIterable, Sendable {
    case inflate = 0
    case deflate = 1
    case statistics = 2
    case hinting = 3
    case reporting = 4
  }

  /// How queues are numbered.
  public enum Numbering: UInt8, CaseIterable, StateValue {
    /// Over the negotiated features, without gaps: what Linux drivers do.
    case consecutive = 0
    /// As 5.5.2 says, with gaps.
    case fixed = 1
  }

  /// The number of queues there are in all.
  public static let count = Role.allCases.count

  public let numbering: Numbering
  /// The role of each queue; nil for one that does nothing.
  public let roles: [Role?]

  /// The queues of a device that agreed on `features` with its driver.
  public init(features: Features, numbering: Numbering) {
    let present = Role.allCases.filter { role in role.feature.map(features.contains) ?? true }
    var roles = [Role?](repeating: nil, count: Self.count)
    for (index, role) in present.enumerated() {
      roles[numbering == .consecutive ? index : role.rawValue] = role
    }
    self.numbering = numbering
    self.roles = roles
  }

  /// What a queue is for; nil when it has no use or does not exist.
  public func role(of index: Int) -> Role? {
    roles.indices.contains(index) ? roles[index] : nil
  }

  /// The queue that has a role; nil when its feature was not negotiated.
  public func index(of role: Role) -> Int? {
    roles.firstIndex(of: role)
  }
}

extension BalloonQueues.Role {
  /// The feature that brings the queue; nil for those that are always there.
  var feature: Feature? {
    switch self {
    case .inflate, .deflate: nil
    case .statistics: .statisticsQueue
    case .hinting: .freePageHint
    case .reporting: .pageReporting
    }
  }

  /// The largest queue as QEMU has it. Linux does not start with fewer than 32 for reporting.
  var queueSize: UInt16 {
    switch self {
    case .inflate, .deflate, .statistics: 128
    case .hinting: 1024
    case .reporting: 32
    }
  }
}
