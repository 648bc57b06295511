import LinuxIO
import Synchronization
import Testing

@testable import VirtioNet

/// A clock that stands until it is moved.
final class StandingClock: Sendable {
  private let nanoseconds = Atomic<UInt64>(1_000_000_000_000)

  var now: UInt64 { nanoseconds.load(ordering: .relaxed) }

  func advance(_ duration: Duration) {
    nanoseconds.add(duration.wholeNanoseconds, ordering: .relaxed)
  }
}

/// An Ethernet frame of a test.
struct BenchFrame {
  static let everybody: UInt64 = 0xFFFF_FFFF_FFFF

  /// A frame with a number as its payload; `tag` is the control information of its VLAN tag.
  static func bytes(to target: UInt64, from source: UInt64, tag: UInt16? = nil, _ number: UInt32 = 0) -> [UInt8] {
    let addresses = bigEndian(target, 6) + bigEndian(source, 6)
    let tagBytes = tag.map { [0x81, 0x00] + bigEndian(UInt64($0), 2) } ?? []
    let payload = bigEndian(UInt64(number), 4) + [UInt8](repeating: 0x55, count: 42)
    return addresses + tagBytes + [0x08, 0x00] + payload
  }

  private static func bigEndian(_ value: UInt64, _ count: Int) -> [UInt8] {
    (0..<count).map { UInt8(truncatingIfNeeded: value >> UInt64(8 * (count - 1 - $0))) }
  }

  /// The number that a frame without a tag carries.
  static func number(of frame: [UInt8]) -> UInt32 {
    frame[14..<18].reduce(0) { $0 << 8 | UInt32($1) }
  }
}

extension PacketPort {
  /// Sends frames, in as many batches as they need.
  /// - Returns: how many the port left.
  @discardableResult
  func sendAll(_ frames: [[UInt8]], _ header: NetHeader = NetHeader()) -> Int {
    var batch = PacketBatch()
    for (index, frame) in frames.enumerated() {
      if !batch.append(frame[...], header) {
        send(&batch)
        guard batch.isEmpty, batch.append(frame[...], header) else { return batch.count + frames.count - index }
      }
    }
    send(&batch)
    return batch.count
  }

  /// Receives until there is nothing more.
  func receiveAll() -> [[UInt8]] {
    var frames: [[UInt8]] = []
    var batch = PacketBatch()
    while true {
      receive(into: &batch)
      if batch.isEmpty { return frames }
      for index in 0..<batch.count { frames.append(Array(batch.bytes[batch.frame(index)])) }
      batch.removeAll()
    }
  }
}

/// A port that gives what it is told to, and keeps what it is sent.
final class BenchPort: PacketPort {
  let name = "bench"
  var takenOffloads: Offloads = .all
  var givenOffloads: Offloads = []
  /// How many packets it has room for.
  var room = Int.max
  var taken: [[UInt8]] = []
  var waiting: [[UInt8]] = []
  var counters = PortCounters()
  var failure: PortError?
  let sign: Eventfd

  init() throws {
    sign = try Eventfd()
  }

  var descriptor: Int32? { sign.descriptor.rawValue }

  func setGivenOffloads(_ offloads: Offloads) { givenOffloads = offloads }

  func send(_ batch: inout PacketBatch) {
    while !batch.isEmpty, taken.count < room {
      taken.append(Array(batch.bytes[batch.frame(0)]))
      batch.removeFirst()
    }
  }

  func receive(into batch: inout PacketBatch) {
    while let frame = waiting.first, batch.append(frame[...]) { waiting.removeFirst() }
  }
}
