/// One feature bit, by its number (2.2). Devices name theirs in extensions.
public struct Feature: RawRepresentable, Hashable, Sendable {
  /// The bit's number, 0 to 127.
  public let rawValue: Int

  /// - Parameter rawValue: 0 to 127; the specification names bits beyond 63 for network devices.
  public init(rawValue: Int) {
    precondition((0..<128).contains(rawValue))
    self.rawValue = rawValue
  }
}

/// The feature bits that belong to rings and transports (6).
extension Feature {
  /// `VIRTIO_F_INDIRECT_DESC`
  public static let indirectDescriptors = Feature(rawValue: 28)
  /// `VIRTIO_F_EVENT_IDX`
  public static let eventIndex = Feature(rawValue: 29)
  /// `VIRTIO_F_VERSION_1`
  public static let version1 = Feature(rawValue: 32)
  /// `VIRTIO_F_ACCESS_PLATFORM`
  public static let accessPlatform = Feature(rawValue: 33)
  /// `VIRTIO_F_RING_PACKED`
  public static let packedRing = Feature(rawValue: 34)
  /// `VIRTIO_F_IN_ORDER`
  public static let inOrder = Feature(rawValue: 35)
  /// `VIRTIO_F_ORDER_PLATFORM`
  public static let orderPlatform = Feature(rawValue: 36)
  /// `VIRTIO_F_NOTIFICATION_DATA`
  public static let notificationData = Feature(rawValue: 38)
  /// `VIRTIO_F_RING_RESET`
  public static let ringReset = Feature(rawValue: 40)
}

extension Feature {
  /// The names of features that any device may have, by bit, as the specification has them without `VIRTIO_F_`; with bit 30,
  /// which vhost-user has taken for itself.
  public static let commonNames: [Int: String] = [
    24: "NOTIFY_ON_EMPTY", 27: "ANY_LAYOUT", 28: "INDIRECT_DESC", 29: "EVENT_IDX", 30: "PROTOCOL_FEATURES",
    32: "VERSION_1", 33: "ACCESS_PLATFORM", 34: "RING_PACKED", 35: "IN_ORDER", 36: "ORDER_PLATFORM", 37: "SR_IOV",
    38: "NOTIFICATION_DATA", 39: "NOTIF_CONFIG_DATA", 40: "RING_RESET", 41: "ADMIN_VQ",
  ]

  /// What the specification calls the feature, without its prefix; its bit where that says nothing.
  /// - Parameter own: the names of a device's own features (`VirtioDevice.featureNames`).
  public func name(among own: [Int: String]) -> String {
    Self.commonNames[rawValue] ?? own[rawValue] ?? "bit \(rawValue)"
  }
}

/// A set of feature bits, 0 to 127.
public struct Features: Hashable, Sendable, ExpressibleByArrayLiteral {
  /// Bits 0 to 63.
  public var low: UInt64
  /// Bits 64 to 127.
  public var high: UInt64

  public init(low: UInt64 = 0, high: UInt64 = 0) {
    self.low = low
    self.high = high
  }

  public init(arrayLiteral features: Feature...) {
    self.init(low: 0, high: 0)
    for feature in features { insert(feature) }
  }

  public func contains(_ feature: Feature) -> Bool {
    let word = feature.rawValue < 64 ? low : high
    return word >> UInt64(feature.rawValue % 64) & 1 != 0
  }

  public mutating func insert(_ feature: Feature) {
    let bit = UInt64(1) << UInt64(feature.rawValue % 64)
    if feature.rawValue < 64 { low |= bit } else { high |= bit }
  }

  public mutating func remove(_ feature: Feature) {
    self = subtracting([feature])
  }

  public func union(_ other: Features) -> Features {
    Features(low: low | other.low, high: high | other.high)
  }

  public func intersection(_ other: Features) -> Features {
    Features(low: low & other.low, high: high & other.high)
  }

  public func subtracting(_ other: Features) -> Features {
    Features(low: low & ~other.low, high: high & ~other.high)
  }

  public func isSubset(of other: Features) -> Bool {
    subtracting(other).isEmpty
  }

  public var isEmpty: Bool { low == 0 && high == 0 }

  /// Each feature, by rising number.
  public var all: [Feature] { (0..<128).map(Feature.init(rawValue:)).filter(contains) }

  /// The 32 bits that a transport shows at a time: word 0 has bits 0 to 31, word 3 has 96 to 127; others are 0.
  public func word(_ index: Int) -> UInt32 {
    switch index {
    case 0: UInt32(truncatingIfNeeded: low)
    case 1: UInt32(truncatingIfNeeded: low >> 32)
    case 2: UInt32(truncatingIfNeeded: high)
    case 3: UInt32(truncatingIfNeeded: high >> 32)
    default: 0
    }
  }
}

extension Features: CustomStringConvertible {
  /// The bits' numbers: `bits 1, 5, 32`.
  public var description: String {
    isEmpty ? "no bits" : "bits " + all.map { String($0.rawValue) }.joined(separator: ", ")
  }
}
