public import DeviceState

/// A guest's devices, as one side of a move tells the other before the first page.
///
/// The destination judges by meaning: a device there may offer more than the driver has agreed on, and larger queues than
/// it has set up, and read more versions of a state than one. The guest runs on meanwhile, and may agree on something
/// else: that is found where its devices are restored, as late as it has to be.
public struct GuestProfile: Equatable, Sendable {
  /// A text that goes to the other side under a name, as migration has notes: at most 255 and 4096 bytes for any device
  /// that this package has.
  public struct Note: Equatable, Sendable {
    public let name: String
    public let text: String

    public init(name: String, text: String) {
      self.name = name
      self.text = text
    }
  }

  private struct Entry: Equatable {
    let label: String
    let profile: DeviceProfile
    let featureNames: [Int: String]
  }

  private static let prefix = "device "
  private static let stateNote = "state"
  /// As many as anybody reads.
  private static let mostInWords = 8

  private var devices: [Entry] = []
  private var states: [StateVersion] = []

  /// No device and no state.
  public init() {}

  /// Adds a device, saved or to be restored under this instance. The device goes on serving.
  public mutating func add<Device: VirtioDevice & ~Copyable>(
    _ host: borrowing DeviceHost<Device>, instance: String = ""
  ) {
    add(host.profile(), of: Device.self, instance: instance)
  }

  /// Adds a device by what it has told of itself on another thread.
  public mutating func add<Device: VirtioDevice & ~Copyable>(
    _ profile: DeviceProfile, of _: Device.Type, instance: String = ""
  ) {
    let label = instance.isEmpty ? Device.State.section : "\(Device.State.section)/\(instance)"
    devices.append(Entry(label: label, profile: profile, featureNames: Device.featureNames))
  }

  /// Adds a state that is saved beside those of devices.
  public mutating func add<State: SavedState>(_: State.Type) {
    states.append(StateVersion(of: State.self))
  }

  /// What the source sends: a note for each device, and one for all other states.
  public var notes: [Note] {
    get throws(StateError) {
      var notes: [Note] = []
      for device in devices {
        notes.append(Note(name: Self.prefix + device.label, text: try Self.text(device.profile)))
      }
      if !states.isEmpty {
        var others = OtherStates()
        others.states = states
        notes.append(Note(name: Self.stateNote, text: try Self.text(others)))
      }
      return notes
    }
  }

  private static func text(_ state: some SavedState) throws(StateError) -> String {
    var snapshot = Snapshot(producer: "", producerVersion: "")
    try snapshot.add(state)
    return snapshot.json
  }

  private static func read<State: SavedState>(_: State.Type, _ text: String) throws(StateError) -> State {
    var snapshot = try Snapshot(json: text)
    let state = try snapshot.take(State.self)
    try snapshot.checkAllTaken()
    return state
  }
}

// MARK: - Judging

extension GuestProfile {
  /// Why a guest cannot go on with these devices, each with both sides named; nil if it can.
  /// - Parameter notes: all that the source has sent; those under other names are left alone.
  public func objection(to notes: [Note]) -> String? {
    let found = mismatches(with: notes)
    guard !found.isEmpty else { return nil }
    let words = found.prefix(Self.mostInWords).map(\.description)
    return (words + (found.count > words.count ? ["\(found.count - words.count) more"] : [])).joined(separator: "; ")
  }

  /// What does not fit between a guest that would come and the devices here, in the order of the source's notes.
  public func mismatches(with notes: [Note]) -> [ProfileMismatch] {
    var found: [ProfileMismatch] = []
    var (missing, missingStates) = (devices.map(\.label), states.map(\.section))
    for note in notes {
      do throws(StateError) {
        if note.name == Self.stateNote {
          let others = try Self.read(OtherStates.self, note.text).states
          found += StateVersion.mismatches(source: others, destination: states, of: nil)
          missingStates.removeAll { name in others.contains { $0.section == name } }
        } else if note.name.hasPrefix(Self.prefix) {
          let label = String(note.name.dropFirst(Self.prefix.count))
          missing.removeAll { $0 == label }
          found += mismatches(of: label, try Self.read(DeviceProfile.self, note.text))
        }
      } catch {
        found.append(.unreadable(note: note.name, error))
      }
    }
    found += missing.map { .missingDevice($0, at: .source) }
    return found + missingStates.map { .missingState($0, at: .source) }
  }

  private func mismatches(of label: String, _ source: DeviceProfile) -> [ProfileMismatch] {
    guard let here = devices.first(where: { $0.label == label }) else {
      return [.missingDevice(label, at: .destination)]
    }
    return here.profile.mismatches(with: source, label, here.featureNames)
  }
}

/// The states of a guest that are no device's.
private struct OtherStates: SavedState {
  static var section: String { "guest-states" }
  static var version: Int { 1 }

  var states: [StateVersion] = []

  mutating func code(with coder: inout some StateCoder) throws(StateError) {
    try coder.field("states", &states)
  }
}

extension DeviceProfile {
  fileprivate func mismatches(
    with source: DeviceProfile, _ label: String, _ names: [Int: String]
  ) -> [ProfileMismatch] {
    guard type == source.type else { return [.otherType(label, source: source.type, destination: type)] }
    let lacking = source.features.subtracting(offeredFeatures)
    var found: [ProfileMismatch] = lacking.all.map { .missingFeature(label, $0, name: $0.name(among: names)) }
    found += source.queues.filter(\.isInUse).compactMap { mismatch(of: $0, label) }
    found += StateVersion.mismatches(source: source.states, destination: states, of: label)
    found += source.constants.compactMap { (constant) in
      let matters = constant.features.isEmpty || !constant.features.intersection(source.features).isEmpty
      let here = constants.first { $0.name == constant.name }?.value
      guard matters, !constant.isMet(by: here) else { return nil }
      return .otherConstant(label, constant, destination: here)
    }
    return found
  }

  /// The first queue of those that is missing or too small here.
  private func mismatch(of source: QueueProfile, _ label: String) -> ProfileMismatch? {
    let sizes = queues.flatMap { [UInt16](repeating: $0.largestSize, count: Int($0.count)) }
    for index in Int(source.first)..<Int(source.first) + Int(source.count) {
      let size = sizes.indices.contains(index) ? sizes[index] : nil
      if size ?? 0 < source.largestSize {
        return .queueTooSmall(label, index, source: source.largestSize, destination: size)
      }
    }
    return nil
  }
}

extension DeviceConstant {
  fileprivate func isMet(by value: UInt64?) -> Bool {
    guard let value else { return false }
    return fit == .same ? value == self.value : value >= self.value
  }
}

extension StateVersion {
  fileprivate static func mismatches(
    source: [StateVersion], destination: [StateVersion], of device: String?
  ) -> [ProfileMismatch] {
    source.compactMap { (state) in
      let here = destination.first { $0.section == state.section }?.version
      if let here, state.version > 0, state.version <= here { return nil }
      return .unreadableState(state.section, of: device, source: state.version, destination: here)
    }
  }
}
