import GuestRAM

/// The guest's driver of a network card (5.1), and its checker: it sends numbered packets, and looks for the numbers of
/// those that it gets.
///
/// A packet may be lost on its way here, as packets are. None may come twice, out of order or damaged. Whether what it sent
/// has gone out, and only once, whoever is at the other end of the wire can tell in the same way.
public struct NetDriver {
  /// What the driver takes of what the device offers, and how much it does with it.
  public struct Options: Sendable {
    /// How many buffers each queue has, 1 to 64.
    public var slotCount = 32
    /// How many packets are sent in a step at most.
    public var packetsPerStep = 8
    /// The address that packets are sent to: six bytes.
    public var peer: [UInt8] = [2, 0, 0, 0, 0, 2]
    /// What of the ring to take, where it is offered.
    public var ring = DriverQueue.Options(eventIndex: true, indirectDescriptors: true)

    public init() {}
  }

  /// The queues of 5.1.2, of a card with one pair.
  enum Queue: Int, CaseIterable {
    case receive = 0, transmit
  }

  private enum Fault: UInt64 {
    case repeated = 1, damaged, header, slot, length
  }

  let transport: any DeviceTransport
  let cells: Cells<NetCell>
  let area: NetArea
  let queues: [DriverQueue]
  /// Interrupts not yet looked at: the driver's one register beside its memory.
  var pending: Interrupts
  private let packetsPerStep: Int

  var memory: GuestMemory { cells.memory }
  private var fault: DriverFault { DriverFault(memory: memory, base: area.base + NetArea.fault) }

  /// The driver of a guest whose driver page says what was negotiated.
  init(
    at page: GuestAddress, transport: any DeviceTransport, memory: GuestMemory, pending: Interrupts
  ) throws(GuestError) {
    self.transport = transport
    self.pending = pending
    let cells = Cells<NetCell>(memory: memory, base: page)
    self.cells = cells
    let slots = try cells.get(.slotCount)
    guard (1...64).contains(slots & 0xFF) else { throw .damaged(field: "number of buffers", value: slots) }
    area = NetArea(base: page, slotCount: slots & 0xFF)
    packetsPerStep = Int(slots >> 8 & 0xFF)
    let options = DriverQueue.Options(try cells.get(.features))
    var queues: [DriverQueue] = []
    for queue in Queue.allCases {
      let size = try cells.get(.queueSize(queue))
      guard (1...32768).contains(size) else { throw .damaged(field: "queue size", value: size) }
      queues.append(
        try DriverQueue(
          at: GuestAddress(try cells.get(.queueAddress(queue))), size: UInt16(size), options: options, memory: memory))
    }
    self.queues = queues
  }

  /// Sets the device up, with everything that the driver keeps in the kernel's memory, and gives it buffers.
  static func start(
    _ options: Options, transport: any DeviceTransport, allocator: GuestAllocator
  ) throws(GuestError) -> NetDriver {
    try transport.starting { () throws(GuestError) in
      let features = try transport.agree { (offered) in
        let own = NetFeatureBit.address | NetFeatureBit.status | RingFeatureBit.version1
        return (own | options.ring.featureBits) & offered
      }
      let page = try layOut(options, features, transport, allocator)
      let driver = try NetDriver(at: page, transport: transport, memory: allocator.memory, pending: .all)
      try driver.readConfiguration()
      try transported { () throws(TransportError) in
        for queue in Queue.allCases {
          try transport.startQueue(queue.rawValue, driver.queues[queue.rawValue].addresses)
        }
        try transport.finishStart()
      }
      for slot in 0..<driver.area.slotCount { try driver.giveBuffer(slot) }
      try driver.submit(.receive)
      return driver
    }
  }

  private static func layOut(
    _ options: Options, _ features: UInt64, _ transport: any DeviceTransport, _ allocator: GuestAllocator
  ) throws(GuestError) -> GuestAddress {
    let slots = UInt64(min(max(1, options.slotCount), 64))
    let area = NetArea(base: GuestAddress(0), slotCount: slots)
    let page = try allocator.kernelRun(byteCount: area.byteCount)
    try allocator.memory.store(bytes: [UInt8](repeating: 0, count: GuestPage.byteCount), at: page)
    let cells = Cells<NetCell>(memory: allocator.memory, base: page)
    try cells.set(.features, features)
    try cells.set(.slotCount, slots | UInt64(min(max(1, options.packetsPerStep), 255)) << 8)
    try cells.set(.peer, options.peer.prefix(6).reduce(0) { $0 << 8 | UInt64($1) })
    for queue in Queue.allCases {
      let ring = try transport.layOut(queue.rawValue, mostEntries: 128, features, allocator)
      try cells.set(.queueAddress(queue), ring.descriptorTable.rawValue)
      try cells.set(.queueSize(queue), UInt64(ring.size))
    }
    try allocator.boot.set(.netPage, page.rawValue)
    return page
  }
}

extension NetDriver {
  /// Does what there is to do now, within bounds.
  mutating func step() throws(GuestError) {
    pending.formUnion(transport.takeInterrupts())
    if try isBroken() { return }
    if pending.configuration {
      pending.configuration = false
      try cells.add(1, to: .configurationChanges)
      if try transport.needsReset() { return try cells.set(.isBroken, 1) }
      try readConfiguration()
    }
    for queue in Queue.allCases { try drain(queue) }
    if try cells.get(.isResting) == 0 { try sendPackets() }
    for queue in Queue.allCases { try submit(queue) }
  }

  private func readConfiguration() throws(GuestError) {
    let config = try transported { () throws(TransportError) in
      try transport.readConfig(at: 0, byteCount: NetConfigOffset.byteCount)
    }
    let address = config[NetConfigOffset.address..<NetConfigOffset.address + 6]
    try cells.set(.address, address.reduce(0) { $0 << 8 | UInt64($1) })
    let hasStatus = try cells.get(.features) & NetFeatureBit.status != 0
    let isUp = !hasStatus || config[NetConfigOffset.status] & NetConfigOffset.linkUp != 0
    try cells.set(.isLinkUp, isUp ? 1 : 0)
  }

  private mutating func drain(_ name: Queue) throws(GuestError) {
    guard pending.contains(queue: name.rawValue) else { return }
    pending.queues &= ~(1 << UInt64(name.rawValue))
    let queue = queues[name.rawValue]
    var left = queue.size
    while left > 0, let used = try queue.takeUsed() {
      switch name {
      case .receive: try receive(UInt64(used.token), byteCount: Int(used.byteCount))
      case .transmit: try finish(UInt64(used.token))
      }
      left -= 1
    }
    if try queue.requestInterrupts() { pending.insert(queue: name.rawValue) }
  }

  /// Makes what was added to a queue available, and tells the device if it wants to be told.
  private func submit(_ queue: Queue) throws(GuestError) {
    try transport.submit(queues[queue.rawValue], number: queue.rawValue)
  }

  // MARK: - Sending

  private func sendPackets() throws(GuestError) {
    var left = packetsPerStep
    for slot in 0..<area.slotCount {
      guard left > 0 else { return }
      guard try cells.get(.slot(slot)) == 0 else { continue }
      try send(in: slot)
      left -= 1
    }
  }

  private func send(in slot: UInt64) throws(GuestError) {
    let number = try cells.get(.nextNumber)
    let packet = NumberedPacket(number: number, from: try ethernetAddress(.address), to: try ethernetAddress(.peer))
    let bytes = [UInt8](repeating: 0, count: NetWireHeader.byteCount) + packet.bytes
    let place = area.transmitBuffer(slot)
    try memory.store(bytes: bytes, at: place)
    let buffer = GuestBuffer(address: place, byteCount: bytes.count)
    let queue = queues[Queue.transmit.rawValue]
    guard try queue.add(readable: [buffer], writable: [], token: UInt32(slot)) else { return }
    try cells.set(.slot(slot), number &+ 1)
    try cells.set(.nextNumber, number &+ 1)
  }

  private func finish(_ slot: UInt64) throws(GuestError) {
    guard slot < area.slotCount, try cells.get(.slot(slot)) != 0 else {
      return try fault.note(Fault.slot.rawValue, at: slot, expected: 1, found: 0)
    }
    try cells.set(.slot(slot), 0)
    try cells.add(1, to: .taken)
  }

  private func ethernetAddress(_ cell: NetCell) throws(GuestError) -> [UInt8] {
    let value = try cells.get(cell)
    return (0..<6).reversed().map { UInt8(truncatingIfNeeded: value >> UInt64(8 * $0)) }
  }

  // MARK: - Receiving

  private func giveBuffer(_ slot: UInt64) throws(GuestError) {
    let buffer = GuestBuffer(address: area.receiveBuffer(slot), byteCount: NetArea.bufferByteCount)
    _ = try queues[Queue.receive.rawValue].add(readable: [], writable: [buffer], token: UInt32(slot))
  }

  private func receive(_ slot: UInt64, byteCount: Int) throws(GuestError) {
    guard slot < area.slotCount, byteCount >= NetWireHeader.byteCount, byteCount <= NetArea.bufferByteCount else {
      return try fault.note(Fault.length.rawValue, at: slot, expected: UInt64(area.slotCount), found: UInt64(byteCount))
    }
    var bytes = [UInt8](repeating: 0, count: byteCount)
    try memory.load(into: &bytes, at: area.receiveBuffer(slot))
    // 5.1.6.4: one buffer, since packets are not spread over several.
    let offset = NetWireHeader.bufferCountOffset
    let count = UInt16(bytes[offset]) | UInt16(bytes[offset + 1]) << 8
    if count != 1 { try fault.note(Fault.header.rawValue, at: slot, expected: 1, found: UInt64(count)) }
    try check(Array(bytes[NetWireHeader.byteCount...]))
    try giveBuffer(slot)
  }

  private func check(_ frame: [UInt8]) throws(GuestError) {
    let expected = try cells.get(.expected)
    switch NumberedPacket.read(frame) {
    case .foreign: try cells.add(1, to: .foreign)
    case .damaged(let number): try fault.note(Fault.damaged.rawValue, at: number, expected: expected, found: number)
    case .packet(let packet) where packet.number < expected:
      try fault.note(Fault.repeated.rawValue, at: packet.number, expected: expected, found: packet.number)
    case .packet(let packet):
      try cells.add(1, to: .received)
      try cells.add(packet.number &- expected, to: .lost)
      try cells.set(.expected, packet.number &+ 1)
    }
  }
}

/// What the driver has seen.
extension NetDriver {
  /// What has become of packets, since the guest has booted.
  public struct Counts: Equatable, Sendable {
    /// How many numbered packets were made available, and how many of them the device has taken.
    public var sent: UInt64
    public var taken: UInt64
    /// How many numbered packets have come, and how many are missing between them.
    public var received: UInt64
    public var lost: UInt64
    /// How many other packets have come.
    public var foreign: UInt64
    /// How often the device has told of a change of its configuration.
    public var configurationChanges: UInt64
  }

  public func counts() throws(GuestError) -> Counts {
    Counts(
      sent: try cells.get(.nextNumber), taken: try cells.get(.taken), received: try cells.get(.received),
      lost: try cells.get(.lost), foreign: try cells.get(.foreign),
      configurationChanges: try cells.get(.configurationChanges))
  }

  /// Whether the link is up, as the driver last read it.
  public func isLinkUp() throws(GuestError) -> Bool { try cells.get(.isLinkUp) != 0 }

  /// Whether the device asked for a reset; the driver then leaves it alone.
  public func isBroken() throws(GuestError) -> Bool { try cells.get(.isBroken) != 0 }

  func setResting(_ isResting: Bool) throws(GuestError) { try cells.set(.isResting, isResting ? 1 : 0) }

  /// The first thing that is wrong with a packet, or nil.
  func mismatch() throws(GuestError) -> IntegrityReport.Mismatch? {
    try fault.mismatch { (code, place) in
      switch Fault(rawValue: code) {
      case .repeated: "packet \(place), which came again or too late; the next would be"
      case .damaged: "packet \(place), damaged; the next would be"
      case .header: "number of buffers of a packet"
      case .slot: "an answer to no packet, \(place)"
      case .length, nil: "length of a packet"
      }
    }
  }
}
