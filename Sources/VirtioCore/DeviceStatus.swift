/// The device status field (2.1): how far a driver has got.
public struct DeviceStatus: OptionSet, Hashable, Sendable {
  public let rawValue: UInt8

  public init(rawValue: UInt8) {
    self.rawValue = rawValue
  }

  /// `ACKNOWLEDGE`: the driver has found the device.
  public static let acknowledge = DeviceStatus(rawValue: 1)
  /// `DRIVER`: the driver knows how to drive it.
  public static let driver = DeviceStatus(rawValue: 2)
  /// `DRIVER_OK`: the driver is ready; the device may serve.
  public static let driverOK = DeviceStatus(rawValue: 4)
  /// `FEATURES_OK`: both sides agree on the features.
  public static let featuresOK = DeviceStatus(rawValue: 8)
  /// `DEVICE_NEEDS_RESET`: the device met an error that it cannot recover from (2.1.2).
  public static let needsReset = DeviceStatus(rawValue: 64)
  /// `FAILED`: the driver has given up.
  public static let failed = DeviceStatus(rawValue: 128)

  /// What a driver may set; the device does not keep any other bit.
  static let steps: DeviceStatus = [.acknowledge, .driver, .featuresOK, .driverOK, .failed]
}

/// The device types (5) that there are models of.
public enum DeviceID: UInt32, Sendable {
  case network = 1
  case block = 2
  case balloon = 5
}
