public import LinuxIO

/// How often a `FaultyPort` does what to packets.
public struct PacketFaults: Equatable, Sendable {
  /// One direction. Probabilities are 0 to 1, each for itself.
  public struct Share: Equatable, Sendable {
    /// A packet is dropped.
    public var loss = 0.0
    /// A packet comes twice.
    public var duplication = 0.0
    /// One bit of a frame is changed.
    public var corruption = 0.0
    /// A packet is overtaken by the next; it follows after 10 ms if none comes.
    public var reordering = 0.0
    /// A packet comes later by `delayLength`, and so do all that are delayed after it.
    public var delay = 0.0
    public var delayLength = Duration.milliseconds(10)

    public init() {}
  }

  /// From the card.
  public var outgoing = Share()
  /// To the card.
  public var incoming = Share()

  public init() {}
}

/// A port behind a bad line, to test what talks over it. The same faults, seed and packets in the same order always
/// strike alike.
public final class FaultyPort: PacketPort {
  /// How many batches may be lost in one call, so that none lasts for as long as others send.
  private static let batchesOfTurn = 16

  /// What happens to packets. A change leaves those alone that wait already.
  public let control: PortControl<PacketFaults>
  private let port: any PacketPort
  private let group: DescriptorGroup
  private let clock: () -> UInt64
  private var changeCount = 0
  private var outgoingLane: FaultLane
  private var incomingLane: FaultLane
  /// What the port behind has yet to take.
  private var outgoing = PacketBatch()
  /// What the port behind has given, before anything happens to it.
  private var incoming = PacketBatch()
  /// What has come through to the card, and finds no room there yet. One packet may become three, for which a card's own
  /// batch may lack room while it has some.
  private var passed = PacketBatch()
  private var alarm = PortAlarm()

  /// - Parameters:
  ///   - seed: what probabilities go by.
  ///   - packetCount: how many packets are late at a time and direction at most; what is beyond that is dropped.
  ///   - byteCount: how many bytes they take at most; at least one of the largest fits.
  public convenience init(
    _ port: any PacketPort, _ faults: PacketFaults = PacketFaults(), seed: UInt64 = 0, packetCount: Int = 1024,
    byteCount: Int = 1 << 20
  ) throws(LinuxError) {
    try self.init(port, faults, seed: seed, packetCount: packetCount, byteCount: byteCount) { MonotonicClock.now }
  }

  /// - Parameter clock: what packets wait by, in nanoseconds; the sign is given by the kernel's clock.
  init(
    _ port: any PacketPort, _ faults: PacketFaults, seed: UInt64, packetCount: Int = 1024, byteCount: Int = 1 << 20,
    clock: @escaping () -> UInt64
  ) throws(LinuxError) {
    self.port = port
    self.clock = clock
    control = try PortControl(faults)
    group = try DescriptorGroup(port.descriptor, control.timer.descriptor.rawValue)
    outgoingLane = FaultLane(faults.outgoing, seed: seed, packetCount: packetCount, byteCount: byteCount)
    incomingLane = FaultLane(faults.incoming, seed: ~seed, packetCount: packetCount, byteCount: byteCount)
  }

  public var name: String { port.name }

  public var takenOffloads: Offloads { port.takenOffloads }

  public func setGivenOffloads(_ offloads: Offloads) { port.setGivenOffloads(offloads) }

  public func finishSending() { port.finishSending() }

  public var descriptor: Int32? { group.descriptor.rawValue }

  public func send(_ batch: inout PacketBatch) {
    adoptFaults()
    guard !outgoingLane.isIdle || !outgoing.isEmpty else { return port.send(&batch) }
    let now = clock()
    repeat {
      outgoingLane.pass(&batch, to: &outgoing, now: now)
      port.send(&outgoing)
    } while outgoing.isEmpty && !batch.isEmpty
    wakeLater(now: now)
  }

  /// Packets on their way out that are due go out as well.
  public func receive(into batch: inout PacketBatch) {
    adoptFaults()
    let now = clock()
    outgoingLane.release(to: &outgoing, now: now)
    if !outgoing.isEmpty { port.send(&outgoing) }
    if incomingLane.isIdle, incoming.isEmpty, passed.isEmpty {
      port.receive(into: &batch)
    } else {
      receiveBadly(into: &batch, now: now)
    }
    wakeLater(now: now)
  }

  public var counters: PortCounters {
    var counters = port.counters
    counters.add(outgoingLane.counters)
    counters.add(incomingLane.counters)
    return counters
  }

  public var failure: PortError? { port.failure }

  private func receiveBadly(into batch: inout PacketBatch, now: UInt64) {
    let count = batch.count
    // That all of a batch is lost or late is no sign that there is nothing more.
    for _ in 0..<Self.batchesOfTurn {
      if incoming.isEmpty { port.receive(into: &incoming) }
      let isOver = incoming.isEmpty
      incomingLane.pass(&incoming, to: &passed, now: now)
      batch.takePackets(of: &passed)
      guard batch.count == count, !isOver else { return }
    }
    alarm.set(now, now: now, control.timer)
  }

  private func adoptFaults() {
    guard let faults = control.change(since: &changeCount) else { return }
    outgoingLane.faults = faults.outgoing
    incomingLane.faults = faults.incoming
    alarm.forget()
  }

  /// Has the card call when the next packet that waits is due.
  private func wakeLater(now: UInt64) {
    if let moment = outgoingLane.nextMoment, moment > now { alarm.set(moment, now: now, control.timer) }
    if let moment = incomingLane.nextMoment, moment > now { alarm.set(moment, now: now, control.timer) }
  }
}
