public import DeviceState

/// A number of a device that its driver has read and counts on from then on, so that a guest that moves must find it
/// again, beside features and queues: the size of a disk, or how much a request may have.
public struct DeviceConstant: StateRecord {
  /// What the number must be where the guest goes.
  public enum Fit: UInt8, StateValue {
    case same = 0
    case atLeast = 1
  }

  /// In words for people: `capacity in sectors`.
  public var name = ""
  public var value: UInt64 = 0
  public var fit = Fit.same
  /// It matters to a driver that has agreed on one of these; to any driver if there is none.
  public var features: Features = []

  public init() {}

  public init(_ name: String, _ value: UInt64, _ fit: Fit = .same, by features: Features = []) {
    self.name = name
    self.value = value
    self.fit = fit
    self.features = features
  }

  public mutating func code(with coder: inout some StateCoder) throws(StateError) {
    try coder.field("name", &name)
    try coder.field("value", &value)
    try coder.field("fit", &fit)
    try coder.field("featuresLow", &features.low)
    try coder.field("featuresHigh", &features.high)
  }
}

/// A section of saved state, by name and version.
public struct StateVersion: StateRecord {
  public var section = ""
  public var version: UInt32 = 0

  public init() {}

  /// The newest of a state, which is the one that is written.
  public init<State: SavedState>(of _: State.Type) {
    section = State.section
    version = UInt32(clamping: State.version)
  }

  public mutating func code(with coder: inout some StateCoder) throws(StateError) {
    try coder.field("section", &section)
    try coder.field("version", &version)
  }
}

/// Neighbouring queues of one size.
public struct QueueProfile: StateRecord {
  /// The first queue's number.
  public var first: UInt16 = 0
  public var count: UInt16 = 0
  /// The largest size that each may have.
  public var largestSize: UInt16 = 0
  /// Whether the driver has set them up.
  public var isInUse = false

  public init() {}

  public mutating func code(with coder: inout some StateCoder) throws(StateError) {
    try coder.field("first", &first)
    try coder.field("count", &count)
    try coder.field("largestSize", &largestSize)
    try coder.field("isInUse", &isInUse)
  }
}

/// What a device is like, and what its driver has agreed with it: all by which another can be judged before it is to go on
/// from this one's state.
///
/// It travels ahead of that state, and changes by the same rules.
public struct DeviceProfile: SavedState {
  public static var section: String { "device-profile" }
  public static var version: Int { 1 }

  /// The device's type (5).
  public var type: UInt32 = 0
  public var offeredFeatures: Features = []
  /// What the driver has agreed on; nothing while there is none.
  public var features: Features = []
  public var queues: [QueueProfile] = []
  /// The sections that the device is saved in, in the versions that it writes: as a destination, the newest that it reads.
  public var states: [StateVersion] = []
  public var constants: [DeviceConstant] = []

  public init() {}

  public mutating func code(with coder: inout some StateCoder) throws(StateError) {
    try coder.field("type", &type)
    try coder.field("offeredFeaturesLow", &offeredFeatures.low)
    try coder.field("offeredFeaturesHigh", &offeredFeatures.high)
    try coder.field("featuresLow", &features.low)
    try coder.field("featuresHigh", &features.high)
    try coder.field("queues", &queues)
    try coder.field("states", &states)
    try coder.field("constants", &constants)
  }
}

extension DeviceHost where Device: ~Copyable {
  /// What the device is like now.
  public func profile() -> DeviceProfile {
    var profile = DeviceProfile()
    profile.type = Device.id.rawValue
    profile.offeredFeatures = offeredFeatures
    profile.features = features
    profile.queues = queueProfiles
    profile.states = [StateVersion(of: HostState<Device.State>.self), StateVersion(of: Device.State.self)]
    profile.constants = device.constants()
    return profile
  }

  private var queueProfiles: [QueueProfile] {
    QueueProfile.profiles(of: device.queueSizes.enumerated().map { ($1, configurations[$0] != nil) })
  }
}

extension QueueProfile {
  /// How many profiles tell queues apart of which only some are in use. A driver that sets up every other queue would
  /// make more of them than a note ahead of the guest has room for.
  private static let mostPrecise = 16

  /// Behind the first profiles neighbours of one size count as in use if any of them is.
  static func profiles(of queues: [(size: UInt16, isInUse: Bool)]) -> [QueueProfile] {
    var profiles: [QueueProfile] = []
    for (index, (size, isInUse)) in queues.enumerated() {
      if let last = profiles.last, last.largestSize == size,
        last.isInUse == isInUse || profiles.count >= mostPrecise
      {
        profiles[profiles.count - 1].count += 1
        profiles[profiles.count - 1].isInUse = last.isInUse || isInUse
      } else {
        var profile = QueueProfile()
        (profile.first, profile.count) = (UInt16(index), 1)
        (profile.largestSize, profile.isInUse) = (size, isInUse)
        profiles.append(profile)
      }
    }
    return profiles
  }
}
