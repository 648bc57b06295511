import GuestRAM

/// The guest's driver of a traditional memory balloon (5.5).
///
/// Its state is a page of guest memory and the interrupts that it has not looked at. Each `step` does a bounded piece of
/// work and waits for nothing.
public struct BalloonDriver {
  /// The device's own feature bits (5.5.3).
  public struct Features: OptionSet, Sendable {
    public let rawValue: UInt64
    public init(rawValue: UInt64) { self.rawValue = rawValue }

    public static let mustTellHost = Features(rawValue: 1 << 0)
    public static let statistics = Features(rawValue: 1 << 1)
    public static let deflateOnOOM = Features(rawValue: 1 << 2)
    public static let freePageHint = Features(rawValue: 1 << 3)
    public static let pagePoison = Features(rawValue: 1 << 4)
    public static let reporting = Features(rawValue: 1 << 5)
    public static let all = Features(rawValue: 0x3F)
  }

  /// How queues behind the second are numbered.
  public enum Numbering: UInt64, Sendable {
    /// One after another over the negotiated features, as Linux does.
    case consecutive = 0
    /// Always 2, 3 and 4, as the text of 5.5.2 says.
    case fixed = 1
  }

  /// What the driver is to take of what the device offers.
  public struct Options: Sendable {
    public var features: Features
    public var numbering: Numbering
    /// What of the ring to take, where it is offered.
    public var ring: DriverQueue.Options

    public init(
      features: Features = .all, numbering: Numbering = .consecutive,
      ring: DriverQueue.Options = DriverQueue.Options(eventIndex: true, indirectDescriptors: true)
    ) {
      self.features = features
      self.numbering = numbering
      self.ring = ring
    }
  }

  /// What the inflate and deflate queues are doing; one buffer is out at a time.
  enum Operation: UInt64 {
    case none = 0, inflating, deflating
  }

  let transport: any DeviceTransport
  let supply: PageSupply
  let cells: Cells<BalloonCell>
  /// The negotiated features.
  public let features: Features
  let numbering: Numbering
  /// By `BalloonQueue`; nil for those that were not negotiated.
  let queues: [DriverQueue?]
  /// Interrupts not yet looked at: the driver's one register beside its page.
  var pending: Interrupts

  var allocator: GuestAllocator { supply.allocator }
  var memory: GuestMemory { supply.allocator.memory }

  /// The driver of a guest whose driver page says what was negotiated.
  init(
    at page: GuestAddress, transport: any DeviceTransport, supply: PageSupply, pending: Interrupts
  ) throws(GuestError) {
    self.transport = transport
    self.supply = supply
    self.pending = pending
    cells = Cells(memory: supply.allocator.memory, base: page)
    let negotiated = try cells.get(.features)
    features = Features(rawValue: negotiated).intersection(.all)
    let number = try cells.get(.numbering)
    guard let numbering = Numbering(rawValue: number) else {
      throw .damaged(field: "queue numbering", value: number)
    }
    self.numbering = numbering
    var queues: [DriverQueue?] = []
    for queue in BalloonQueue.allCases {
      queues.append(try Self.open(queue, cells, negotiated))
    }
    self.queues = queues
  }

  private static func open(
    _ queue: BalloonQueue, _ cells: Cells<BalloonCell>, _ negotiated: UInt64
  ) throws(GuestError) -> DriverQueue? {
    let size = try cells.get(.queueSize(queue))
    guard size != 0 else { return nil }
    guard size <= 32768 else { throw .damaged(field: "queue size", value: size) }
    return try DriverQueue(
      at: GuestAddress(try cells.get(.queueAddress(queue))), size: UInt16(size),
      options: DriverQueue.Options(negotiated), memory: cells.memory)
  }

  /// The number of a negotiated queue, or nil.
  public func number(of queue: BalloonQueue) -> Int? {
    guard features.isSuperset(of: queue.feature) else { return nil }
    guard numbering == .consecutive else { return queue.rawValue }
    return BalloonQueue.allCases.prefix(queue.rawValue).count { features.isSuperset(of: $0.feature) }
  }

  /// Where a negotiated queue is, or nil.
  public func addresses(of queue: BalloonQueue) -> QueueAddresses? {
    queues[queue.rawValue]?.addresses
  }

  /// The number of pages that the device wants in the balloon, as the driver last read it.
  public func targetPages() throws(GuestError) -> UInt64 {
    try cells.get(.target)
  }

  /// Whether the device asked for a reset; the driver then leaves it alone.
  public func isBroken() throws(GuestError) -> Bool {
    try cells.get(.isBroken) != 0
  }

  /// Whether a request is out or more are to come.
  public func isBusy() throws(GuestError) -> Bool {
    if try cells.get(.operation) != Operation.none.rawValue { return true }
    return try cells.get(.wantsResize) != 0
  }
}

extension DriverQueue.Options {
  init(_ negotiated: UInt64) {
    self.init(
      eventIndex: negotiated & RingFeatureBit.eventIndex != 0,
      indirectDescriptors: negotiated & RingFeatureBit.indirectDescriptors != 0,
      inOrder: negotiated & RingFeatureBit.inOrder != 0)
  }

  var featureBits: UInt64 {
    (eventIndex ? RingFeatureBit.eventIndex : 0)
      | (indirectDescriptors ? RingFeatureBit.indirectDescriptors : 0) | (inOrder ? RingFeatureBit.inOrder : 0)
  }
}

extension BalloonDriver {
  /// Does what there is to do now, within bounds.
  ///
  /// - Parameter tick: the guest's clock, in steps.
  mutating func step(at tick: UInt64) throws(GuestError) {
    pending.formUnion(transport.takeInterrupts())
    if try isBroken() { return }
    if pending.configuration { try configurationChanged() }
    for queue in BalloonQueue.allCases { try drain(queue) }
    try resize()
    try hint()
    try report(at: tick)
  }

  private mutating func configurationChanged() throws(GuestError) {
    pending.configuration = false
    if try transport.needsReset() { return try cells.set(.isBroken, 1) }
    let config = try readConfig()
    try cells.set(.target, UInt64(config.word(at: BalloonConfigOffset.target)))
    try cells.set(.wantsResize, 1)
    if features.contains(.freePageHint) { try hintCommandChanged(config.word(at: BalloonConfigOffset.hintCommand)) }
  }

  /// Reads all of the configuration space at one moment: again if it changed meanwhile (2.5.3).
  private func readConfig() throws(GuestError) -> [UInt8] {
    try transported { () throws(TransportError) in
      for _ in 0..<16 {
        let generation = try transport.configGeneration()
        let config = try transport.readConfig(at: 0, byteCount: BalloonConfigOffset.byteCount)
        if try transport.configGeneration() == generation { return config }
      }
      // A device that never rests: its next interrupt comes with its next change.
      return try transport.readConfig(at: 0, byteCount: BalloonConfigOffset.byteCount)
    }
  }

  /// Takes back what the device has used, a ring's worth at most.
  private mutating func drain(_ name: BalloonQueue) throws(GuestError) {
    guard let number = number(of: name), pending.contains(queue: number) else { return }
    guard let queue = queues[name.rawValue] else { return }
    pending.queues &= ~(1 << UInt64(number))
    var left = queue.size
    while left > 0, try queue.takeUsed() != nil {
      try finish(name)
      left -= 1
    }
    if try queue.requestInterrupts() { pending.insert(queue: number) }
  }

  private func finish(_ name: BalloonQueue) throws(GuestError) {
    switch name {
    case .inflate, .deflate: try finishOperation()
    case .statistics: try sendStatistics()
    case .hinting: break
    case .reporting: try finishReport()
    }
  }

  /// Makes what was added to a queue available, and tells the device if it wants to be told.
  func submit(_ name: BalloonQueue) throws(GuestError) {
    guard let queue = queues[name.rawValue], let number = number(of: name) else { return }
    try transport.submit(queue, number: number)
  }
}

/// Does something with a transport, whose errors become the guest's.
func transported<Result>(_ body: () throws(TransportError) -> Result) throws(GuestError) -> Result {
  do throws(TransportError) { return try body() } catch { throw .transport(error) }
}

extension [UInt8] {
  /// The little-endian 32-bit word at an offset; bytes behind the end are 0.
  func word(at offset: Int) -> UInt32 {
    (0..<4).reduce(0) { $0 | (indices.contains(offset + $1) ? UInt32(self[offset + $1]) << UInt32(8 * $1) : 0) }
  }

  init(littleEndian value: UInt32) {
    self = (0..<4).map { UInt8(truncatingIfNeeded: value >> UInt32(8 * $0)) }
  }
}
