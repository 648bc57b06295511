import LinuxIO

/// One direction of a `FaultyPort`.
struct FaultLane: ~Copyable {
  /// After what time a packet follows that waits for the next to overtake it.
  private static let longestSwap: UInt64 = 10_000_000

  var faults: PacketFaults.Share
  /// What was dropped here.
  private(set) var counters = PortCounters()
  private var random: SeededNumbers
  /// Packets that are late, with the moments at which they go on.
  private var late: PacketRing
  /// One that waits for the next to overtake it, with the moment at which it goes on even so.
  private var overtaken = PacketRing(packetCount: 1, byteCount: 0)
  private var lastMoment: UInt64 = 0

  init(_ faults: PacketFaults.Share, seed: UInt64, packetCount: Int, byteCount: Int) {
    self.faults = faults
    random = SeededNumbers(seed: seed)
    late = PacketRing(packetCount: packetCount, byteCount: byteCount)
  }

  /// Whether packets pass as if it were not there.
  var isIdle: Bool { faults == PacketFaults.Share() && late.isEmpty && overtaken.isEmpty }

  /// When the next packet is due that waits here; nil when none does.
  var nextMoment: UInt64? {
    guard let first = late.firstStamp else { return overtaken.firstStamp }
    return overtaken.firstStamp.map { min($0, first) } ?? first
  }

  /// Moves packets from a batch to another, with what is due of those that wait and without what is to wait or get lost.
  mutating func pass(_ source: inout PacketBatch, to target: inout PacketBatch, now: UInt64) {
    release(to: &target, now: now)
    while !source.isEmpty, target.isEmpty || target.hasRoomForTwo(of: source.frame(0).count) {
      strike(&source, &target, now: now)
      source.removeFirst()
    }
  }

  /// Moves packets that are due.
  mutating func release(to target: inout PacketBatch, now: UInt64) {
    while let moment = late.firstStamp, moment <= now, late.moveFirst(into: &target) {}
    if let moment = overtaken.firstStamp, moment <= now { _ = overtaken.moveFirst(into: &target) }
  }

  /// Decides on the first packet. The same dice are thrown for every packet, so that its fate depends on its number alone.
  private mutating func strike(_ source: inout PacketBatch, _ target: inout PacketBatch, now: UInt64) {
    let isLost = strikes(faults.loss)
    let isCorrupt = strikes(faults.corruption)
    let isDouble = strikes(faults.duplication)
    let isLate = strikes(faults.delay)
    let isOvertaken = strikes(faults.reordering)
    let place = random.next()
    guard !isLost else { return counters.drop(.injected) }
    if isCorrupt { corrupt(&source, place) }
    if isDouble { target.append(packet: 0, of: source) }
    if isLate { return delay(source, now: now) }
    let packet = source.packet(0)
    let moment = saturatingSum(now, Self.longestSwap)
    if isOvertaken, overtaken.isEmpty, overtaken.append(packet, of: source.bytes, stamp: moment) { return }
    if !target.append(packet: 0, of: source) { counters.drop(.queueFull) }
    _ = overtaken.moveFirst(into: &target)
  }

  private mutating func strikes(_ probability: Double) -> Bool {
    Double.random(in: 0..<1, using: &random) < probability
  }

  /// Changes one bit of a frame.
  private func corrupt(_ batch: inout PacketBatch, _ number: UInt64) {
    let frame = batch.frame(0)
    guard !frame.isEmpty else { return }
    let place = Int((number >> 3) % UInt64(frame.count))
    batch.bytes[frame.lowerBound + place] ^= 1 << UInt8(number & 7)
  }

  /// Has the first packet wait, behind all that wait already.
  private mutating func delay(_ batch: borrowing PacketBatch, now: UInt64) {
    lastMoment = max(lastMoment, saturatingSum(now, faults.delayLength.wholeNanoseconds))
    if !late.append(batch.packet(0), of: batch.bytes, stamp: lastMoment) { counters.drop(.queueFull) }
  }

  private func saturatingSum(_ first: UInt64, _ second: UInt64) -> UInt64 {
    let (sum, overflow) = first.addingReportingOverflow(second)
    return overflow ? .max : sum
  }
}

extension PacketBatch {
  /// Whether a packet of so many bytes fits, and after it another one of any length.
  fileprivate func hasRoomForTwo(of byteCount: Int) -> Bool {
    count + 2 < Self.largestCount && hasRoom(for: byteCount + Self.largestFrameByteCount + 2 * NetHeader.byteCount + 32)
  }
}
