public import DeviceState

/// Why a guest cannot go on with the devices of another place, found before it is moved there.
public enum ProfileMismatch: Error, Equatable, Sendable {
  /// The two sides of a move.
  public enum Side: Sendable {
    case source, destination
  }

  /// Only the other side has this device.
  case missingDevice(String, at: Side)
  /// Only the other side has this state beside those of devices.
  case missingState(String, at: Side)
  /// Devices of one name are of two types (5).
  case otherType(String, source: UInt32, destination: UInt32)
  /// The driver has agreed on a feature that the destination's device does not offer.
  case missingFeature(String, Feature, name: String)
  /// The driver has set up a queue that may be larger than the destination's; nil for a device without such a queue.
  case queueTooSmall(String, Int, source: UInt16, destination: UInt16?)
  /// What the driver has been told is otherwise; nil where the destination's device has no such number.
  case otherConstant(String, DeviceConstant, destination: UInt64?)
  /// A section would come in a version that the destination does not read; nil for a section that it does not know.
  case unreadableState(String, of: String?, source: UInt32, destination: UInt32?)
  /// The source's note cannot be read.
  case unreadable(note: String, StateError)
}

extension ProfileMismatch: CustomStringConvertible {
  /// What it is about, then both sides: `device net: source: …; destination: …`.
  public var description: String {
    let (source, destination) = sides
    return "\(subject): source: \(source); destination: \(destination)"
  }

  private var subject: String {
    switch self {
    case .missingDevice(let device, _), .otherType(let device, _, _), .missingFeature(let device, _, _):
      "device \(device.printable)"
    case .queueTooSmall(let device, let index, _, _): "device \(device.printable), queue \(index)"
    case .otherConstant(let device, let constant, _): "device \(device.printable), \(constant.name.printable)"
    case .missingState(let section, _), .unreadableState(let section, nil, _, _): "state \(section.printable)"
    case .unreadableState(let section, let device?, _, _): "device \(device.printable), state \(section.printable)"
    case .unreadable(let note, _): note.printable
    }
  }

  private var sides: (source: String, destination: String) {
    switch self {
    case .missingDevice(_, let side), .missingState(_, let side):
      side == .source ? ("has none", "has one") : ("has one", "has none")
    case .otherType(_, let source, let destination): ("type \(source)", "type \(destination)")
    case .missingFeature(_, let feature, let name):
      ("uses feature \(name) (bit \(feature.rawValue))", "does not offer it")
    case .queueTooSmall(_, _, let source, let destination):
      ("up to \(source) entries", destination.map { "up to \($0)" } ?? "no such queue")
    case .otherConstant(_, let constant, let destination):
      ("\(constant.value)", destination.map { "\($0)" } ?? "none")
    case .unreadableState(_, _, let source, let destination):
      ("version \(source)", destination.map { "reads up to version \($0)" } ?? "does not know it")
    case .unreadable(_, let error): ("has sent what cannot be read", "\(error)")
    }
  }
}
