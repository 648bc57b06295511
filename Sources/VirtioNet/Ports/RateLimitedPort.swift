public import LinuxIO

/// How much a `RateLimitedPort` lets through; nil is without limit.
public struct PacketRates: Equatable, Sendable {
  /// One direction.
  public struct Share: Equatable, Sendable {
    /// Packets for each second.
    public var packets: TokenBucket.Rate?
    /// Bytes of frames for each second.
    public var bytes: TokenBucket.Rate?

    public init(packets: TokenBucket.Rate? = nil, bytes: TokenBucket.Rate? = nil) {
      self.packets = packets
      self.bytes = bytes
    }
  }

  /// From the card.
  public var outgoing: Share
  /// To the card.
  public var incoming: Share

  public init(outgoing: Share = Share(), incoming: Share = Share()) {
    self.outgoing = outgoing
    self.incoming = incoming
  }
}

/// A port behind a brake, for both directions apart. What is over a rate waits and is not dropped: outgoing packets with
/// the card, and incoming ones in the port behind, but for one batch.
public final class RateLimitedPort: PacketPort {
  private let port: any PacketPort
  private let group: DescriptorGroup
  private let clock: () -> UInt64
  private let brakes: PacketBrakes
  /// Those of the card's packets that may go, when not all may.
  private var outgoing = PacketBatch()
  /// What the port behind has given, and the card may not yet have.
  private var incoming = PacketBatch()

  public convenience init(_ port: any PacketPort, _ rates: PacketRates = PacketRates()) throws(LinuxError) {
    try self.init(port, rates, clock: { MonotonicClock.now })
  }

  /// - Parameter clock: what tokens flow by, in nanoseconds; the sign is given by the kernel's clock.
  convenience init(_ port: any PacketPort, _ rates: PacketRates, clock: @escaping () -> UInt64) throws(LinuxError) {
    try self.init(port, try PacketBrakes(rates), clock)
  }

  private init(_ port: any PacketPort, _ brakes: PacketBrakes, _ clock: @escaping () -> UInt64) throws(LinuxError) {
    self.port = port
    self.clock = clock
    self.brakes = brakes
    group = try DescriptorGroup(port.descriptor, brakes.control.timer.descriptor.rawValue)
  }

  /// Puts the ports of one card behind one brake, which lets so much through in all of them together. A sign for one is a
  /// sign for all; they have one `control`.
  public static func sharing(
    _ rates: PacketRates, among ports: [any PacketPort]
  ) throws(LinuxError) -> [RateLimitedPort] {
    try sharing(rates, among: ports) { MonotonicClock.now }
  }

  static func sharing(
    _ rates: PacketRates, among ports: [any PacketPort], clock: @escaping () -> UInt64
  ) throws(LinuxError) -> [RateLimitedPort] {
    let brakes = try PacketBrakes(rates)
    return try ports.map { port throws(LinuxError) in try RateLimitedPort(port, brakes, clock) }
  }

  /// What is let through. A change starts with full buckets.
  public var control: PortControl<PacketRates> { brakes.control }

  public var name: String { port.name }

  public var takenOffloads: Offloads { port.takenOffloads }

  public func setGivenOffloads(_ offloads: Offloads) { port.setGivenOffloads(offloads) }

  public func finishSending() { port.finishSending() }

  public var descriptor: Int32? { group.descriptor.rawValue }

  public func send(_ batch: inout PacketBatch) {
    brakes.adoptRates()
    guard brakes.outgoing.isOn, !batch.isEmpty else { return port.send(&batch) }
    let now = clock()
    var isBlocked = false
    while !batch.isEmpty, !isBlocked {
      let count = brakes.outgoing.take(batch, now: now)
      isBlocked = !sendFirst(count, of: &batch)
    }
    guard !batch.isEmpty else { return }
    let delay = brakes.outgoing.delay(of: batch.frame(0).count, now: now)
    if delay > 0 { brakes.alarm.set(now &+ delay, now: now, control.timer) }
  }

  /// Hands on packets whose tokens have been taken, and puts back the tokens of those that the port behind does not take.
  /// - Returns: whether it took any and has room for more.
  private func sendFirst(_ count: Int, of batch: inout PacketBatch) -> Bool {
    guard count < batch.count else {
      port.send(&batch)
      putBackTokens(0..<batch.count, of: batch)
      return batch.isEmpty
    }
    var copied = 0
    while copied < count, outgoing.append(packet: copied, of: batch) { copied += 1 }
    port.send(&outgoing)
    let sent = copied - outgoing.count
    putBackTokens(sent..<count, of: batch)
    batch.removeFirst(sent)
    defer { outgoing.removeAll() }
    return sent > 0 && outgoing.isEmpty
  }

  private func putBackTokens(_ range: Range<Int>, of batch: borrowing PacketBatch) {
    for index in range { brakes.outgoing.putBack(batch.frame(index).count) }
  }

  public func receive(into batch: inout PacketBatch) {
    brakes.adoptRates()
    guard brakes.incoming.isOn || !incoming.isEmpty else { return port.receive(into: &batch) }
    let now = clock()
    while true {
      // A batch that is not full is no sign that there is nothing more.
      if incoming.isEmpty { port.receive(into: &incoming) }
      guard !incoming.isEmpty else { return }
      while !incoming.isEmpty {
        let byteCount = incoming.frame(0).count
        guard batch.hasRoom(for: byteCount) else { return }
        let delay = brakes.incoming.delay(of: byteCount, now: now)
        guard delay == 0 else { return brakes.alarm.set(now &+ delay, now: now, control.timer) }
        brakes.incoming.take(byteCount, now: now)
        batch.append(packet: 0, of: incoming)
        incoming.removeFirst()
      }
    }
  }

  public var counters: PortCounters { port.counters }

  public var failure: PortError? { port.failure }
}

/// The brakes of ports that share them, for both directions.
private final class PacketBrakes {
  let control: PortControl<PacketRates>
  var outgoing: PacketBrake
  var incoming: PacketBrake
  var alarm = PortAlarm()
  private var changeCount = 0

  init(_ rates: PacketRates) throws(LinuxError) {
    control = try PortControl(rates)
    outgoing = PacketBrake(rates.outgoing)
    incoming = PacketBrake(rates.incoming)
  }

  /// Goes by the limits as they are now.
  func adoptRates() {
    guard let rates = control.change(since: &changeCount) else { return }
    outgoing = PacketBrake(rates.outgoing)
    incoming = PacketBrake(rates.incoming)
    alarm.forget()
  }
}

/// The buckets behind one direction's limits.
private struct PacketBrake {
  private var packets: TokenBucket?
  private var bytes: TokenBucket?

  init(_ share: PacketRates.Share) {
    packets = share.packets.map { TokenBucket($0) }
    bytes = share.bytes.map { TokenBucket($0) }
  }

  var isOn: Bool { packets != nil || bytes != nil }

  /// How many nanoseconds until a frame may pass.
  func delay(of byteCount: Int, now: UInt64) -> UInt64 {
    max(packets?.delay(of: 1, now: now) ?? 0, bytes?.delay(of: UInt64(byteCount), now: now) ?? 0)
  }

  mutating func take(_ byteCount: Int, now: UInt64) {
    _ = packets?.take(1, now: now)
    _ = bytes?.take(UInt64(byteCount), now: now)
  }

  mutating func putBack(_ byteCount: Int) {
    packets?.putBack(1)
    bytes?.putBack(UInt64(byteCount))
  }

  /// Takes what the first packets of a batch cost.
  /// - Returns: how many may pass.
  mutating func take(_ batch: borrowing PacketBatch, now: UInt64) -> Int {
    for index in 0..<batch.count {
      let byteCount = batch.frame(index).count
      guard delay(of: byteCount, now: now) == 0 else { return index }
      take(byteCount, now: now)
    }
    return batch.count
  }
}
