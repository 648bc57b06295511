import LinuxIO

/// Takes and counts everything, and gives nothing: for measurements.
public final class SinkPort: PacketPort {
  public let name = "sink"
  public private(set) var counters = PortCounters()

  public init() {}

  /// All: nobody looks.
  public var takenOffloads: Offloads { .all }
  public func setGivenOffloads(_ offloads: Offloads) {}
  /// Nothing ever comes.
  public var descriptor: Int32? { nil }
  public var failure: PortError? { nil }

  public func send(_ batch: inout PacketBatch) {
    counters.sent &+= UInt64(batch.count)
    batch.removeAll()
  }

  public func receive(into batch: inout PacketBatch) {}
}

/// Gives the same frame again and again, as often as it is asked: for measurements. It takes everything.
public final class SourcePort: PacketPort {
  public let name = "source"
  public private(set) var counters = PortCounters()
  private let frame: [UInt8]
  private let event: Eventfd

  /// To all, from a local address, of a protocol kept for experiments, and of the usual shortest length.
  public static let smallFrame =
    [UInt8](repeating: 0xff, count: 6) + [0x02, 0, 0, 0, 0, 1, 0x88, 0xb5] + [UInt8](repeating: 0, count: 50)

  /// - Parameter frame: one that a port may give: neither too short nor too long.
  public init(frame: [UInt8] = smallFrame) throws(PortError) {
    precondition((PacketBatch.smallestFrameByteCount...PacketBatch.largestFrameByteCount).contains(frame.count))
    self.frame = frame
    do throws(LinuxError) {
      event = try Eventfd()
    } catch {
      throw .system("source", error)
    }
    event.signal()
  }

  public var takenOffloads: Offloads { .all }
  public func setGivenOffloads(_ offloads: Offloads) {}
  /// Always readable: there is always more.
  public var descriptor: Int32? { event.descriptor.rawValue }
  public var failure: PortError? { nil }

  public func send(_ batch: inout PacketBatch) {
    counters.sent &+= UInt64(batch.count)
    batch.removeAll()
  }

  public func receive(into batch: inout PacketBatch) {
    let before = batch.count
    while batch.hasRoom(), batch.append(frame.indices, of: frame) {}
    counters.received &+= UInt64(batch.count - before)
  }
}
