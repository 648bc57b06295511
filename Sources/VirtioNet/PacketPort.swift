/// Where a card's packets go to and come from: a TAP device, a switch, a socket.
///
/// A port belongs to one thread, that of its card. It never waits: what it cannot take or has not got now is left for
/// another call, for which its descriptor gives the sign.
public protocol PacketPort: AnyObject {
  /// What it is, for people: `tap:vm0`.
  var name: String { get }

  /// What may be undone in packets that it is sent. The card does the rest before it sends.
  var takenOffloads: Offloads { get }

  /// What it may leave undone in packets that it gives: at most this, and fewer if it likes.
  func setGivenOffloads(_ offloads: Offloads)

  /// Becomes readable or writable anew when there are packets or room again, whichever of both that is; nil when nothing
  /// ever comes by itself. It is watched for changes (`EventLoop.Events.onChange`), since nobody drains it: after one,
  /// call until nothing more is got or taken.
  var descriptor: Int32? { get }

  /// Takes packets from the front of the batch: all, or until it has no room. A packet that it drops counts as taken.
  /// With or without packets, it goes on with what it took before and has kept.
  func send(_ batch: inout PacketBatch)

  /// Adds packets to the batch until there are none, or the batch has no room for the largest.
  func receive(into batch: inout PacketBatch)

  /// Returns once nothing of what it was sent is under way on another thread: its driver has gone or is to go on elsewhere.
  /// What can go out at once has gone, and the rest is dropped.
  func finishSending()

  /// What has gone through it and what has not.
  var counters: PortCounters { get }

  /// Why it can carry nothing any more; nil while it can.
  var failure: PortError? { get }
}

extension PacketPort {
  /// A port that does all its work in the calls that it gets has nothing under way.
  public func finishSending() {}
}

/// What a port has counted since it was made.
public struct PortCounters: Equatable, Sendable {
  /// Packets taken from the card and passed on.
  public var sent: UInt64 = 0
  /// Packets given to the card.
  public var received: UInt64 = 0
  /// Packets taken from the card, or from outside, and not passed on, by reason.
  public var drops: [DropReason: UInt64] = [:]

  public init() {}

  public mutating func drop(_ reason: DropReason, _ count: UInt64 = 1) {
    if count > 0 { drops[reason, default: 0] &+= count }
  }
}

/// Why a packet was not passed on. The numbers stand in saved states; new reasons go to the end.
public enum DropReason: UInt8, CaseIterable, Sendable, CustomStringConvertible {
  /// The frame is shorter than an Ethernet header.
  case tooShort
  /// The frame is longer than any, or than its receiver takes.
  case tooLong
  /// Its header's offsets or sizes lie outside the frame, or name what the frame is not.
  case badHeader
  /// Something was left undone that was not negotiated.
  case notNegotiated
  /// The driver has no buffers for it.
  case noBuffers
  /// The driver's buffer is too small for it.
  case bufferTooSmall
  /// The receive filter of the card wants none of it.
  case filtered
  /// The link is down.
  case linkDown
  /// Whoever should get it is too slow.
  case queueFull
  /// More than the rate that is let through.
  case rate
  /// On purpose.
  case injected
  /// The other side has gone, or refused it.
  case portFailed
  /// Nobody is there to get it.
  case noReceiver

  public var description: String {
    switch self {
    case .tooShort: "too short"
    case .tooLong: "too long"
    case .badHeader: "bad header"
    case .notNegotiated: "not negotiated"
    case .noBuffers: "no buffers"
    case .bufferTooSmall: "buffer too small"
    case .filtered: "filtered"
    case .linkDown: "link down"
    case .queueFull: "queue full"
    case .rate: "over the rate"
    case .injected: "injected"
    case .portFailed: "port failed"
    case .noReceiver: "no receiver"
    }
  }
}
