import GuestRAM

/// The guest's driver of a block device (5.2), and its checker: it keeps several requests in flight, and knows what each
/// block of the disk has to hold.
///
/// A write puts its sequence number into each sector, a read is compared with the last write that was answered, and the
/// requests in flight are to different blocks, so that there is one right answer. Like all of the guest the driver lives in
/// guest memory: what it expects of the disk goes where the guest goes.
public struct BlockDriver {
  /// What the driver takes of what the device offers, and how much it does with it.
  public struct Options: Sendable {
    /// How many requests are in flight, 1 to 32.
    public var slotCount = 8
    /// How many blocks of 4096 bytes from the disk's start are used, at most 4096; no more than the disk has.
    public var blockCount = 256
    /// What of the ring to take, where it is offered.
    public var ring = DriverQueue.Options(eventIndex: true, indirectDescriptors: true)

    public init() {}
  }

  /// The sequence number of each block's last write: that was answered, that a flush has made durable, and that a flush
  /// which is under way will.
  public enum Table: UInt64, Sendable {
    case completed = 0, durable, flushing
  }

  enum SlotField: UInt64 {
    case kind = 0, block, sequence
  }

  enum SlotKind: UInt64 {
    case idle = 0, read, write, flush
  }

  private enum Fault: UInt64 {
    case status = 1, content, length, slot
  }

  let transport: any DeviceTransport
  let cells: Cells<BlockCell>
  let area: BlockArea
  let queue: DriverQueue
  /// Interrupts not yet looked at: the driver's one register beside its memory.
  var pending: Interrupts

  var memory: GuestMemory { cells.memory }
  private var fault: DriverFault { DriverFault(memory: memory, base: area.base + BlockArea.fault) }

  /// The driver of a guest whose driver page says what was negotiated.
  init(
    at page: GuestAddress, transport: any DeviceTransport, memory: GuestMemory, pending: Interrupts
  ) throws(GuestError) {
    self.transport = transport
    self.pending = pending
    cells = Cells(memory: memory, base: page)
    let (blocks, slots) = (try cells.get(.blockCount), try cells.get(.slotCount))
    guard (1...4096).contains(blocks) else { throw .damaged(field: "number of blocks", value: blocks) }
    guard (1...32).contains(slots) else { throw .damaged(field: "number of requests", value: slots) }
    area = BlockArea(base: page, blockCount: blocks, slotCount: slots)
    let size = try cells.get(.queueSize)
    guard (1...32768).contains(size) else { throw .damaged(field: "queue size", value: size) }
    queue = try DriverQueue(
      at: GuestAddress(try cells.get(.queueAddress)), size: UInt16(size),
      options: DriverQueue.Options(try cells.get(.features)), memory: memory)
  }

  /// Sets the device up, with everything that the driver keeps in the kernel's memory.
  static func start(
    _ options: Options, transport: any DeviceTransport, allocator: GuestAllocator
  ) throws(GuestError) -> BlockDriver {
    try transport.starting { () throws(GuestError) in
      let features = try transport.agree { (offered) in
        (BlockFeatureBit.flush | options.ring.featureBits | RingFeatureBit.version1) & offered
      }
      let page = try layOut(options, features, transport, allocator)
      let driver = try BlockDriver(at: page, transport: transport, memory: allocator.memory, pending: .all)
      try transported { () throws(TransportError) in
        try transport.startQueue(0, driver.queue.addresses)
        try transport.finishStart()
      }
      return driver
    }
  }

  private static func layOut(
    _ options: Options, _ features: UInt64, _ transport: any DeviceTransport, _ allocator: GuestAllocator
  ) throws(GuestError) -> GuestAddress {
    let config = try transported { () throws(TransportError) in
      try transport.readConfig(at: BlockConfigOffset.capacity, byteCount: 8)
    }
    let capacity = UInt64(config.word(at: 4)) << 32 | UInt64(config.word(at: 0))
    let blocks = min(UInt64(min(max(1, options.blockCount), 4096)), capacity / BlockContent.sectorsPerBlock)
    guard blocks > 0 else { throw .diskTooSmall(sectorCount: capacity, wanted: BlockContent.sectorsPerBlock) }
    let slots = UInt64(min(max(1, options.slotCount), 32))
    let area = BlockArea(base: GuestAddress(0), blockCount: blocks, slotCount: slots)
    let page = try allocator.kernelRun(byteCount: area.byteCount)
    let tables = Int(area.data(0).rawValue)
    try allocator.memory.store(bytes: [UInt8](repeating: 0, count: tables), at: page)
    let queue = try transport.layOut(0, mostEntries: 128, features, allocator)
    let cells = Cells<BlockCell>(memory: allocator.memory, base: page)
    let values: [(BlockCell, UInt64)] = [
      (.features, features), (.blockCount, blocks), (.slotCount, slots), (.queueSize, UInt64(queue.size)),
      (.queueAddress, queue.descriptorTable.rawValue), (.nextSequence, 1),
    ]
    for (cell, value) in values { try cells.set(cell, value) }
    try allocator.boot.set(.blockPage, page.rawValue)
    return page
  }
}

extension BlockDriver {
  /// Does what there is to do now, within bounds.
  mutating func step(_ random: inout GuestRandom) throws(GuestError) {
    pending.formUnion(transport.takeInterrupts())
    if try isBroken() { return }
    if pending.configuration {
      pending.configuration = false
      try cells.add(1, to: .configurationChanges)
      if try transport.needsReset() { return try cells.set(.isBroken, 1) }
    }
    if pending.contains(queue: 0) { try drain() }
    if try cells.get(.isResting) == 0 { try issue(&random) }
    try transport.submit(queue, number: 0)
  }

  /// Looks at what the device has answered, a ring's worth at most.
  private mutating func drain() throws(GuestError) {
    pending.queues &= ~1
    var left = queue.size
    while left > 0, let used = try queue.takeUsed() {
      try finish(UInt64(used.token), byteCount: used.byteCount)
      left -= 1
    }
    if try queue.requestInterrupts() { pending.insert(queue: 0) }
  }

  private func finish(_ slot: UInt64, byteCount: UInt32) throws(GuestError) {
    guard slot < area.slotCount, let kind = SlotKind(rawValue: try cells.get(.slot(slot, .kind))), kind != .idle else {
      return try fault.note(Fault.slot.rawValue, at: slot, expected: 1, found: 0)
    }
    let block = try cells.get(.slot(slot, .block))
    let sequence = try cells.get(.slot(slot, .sequence))
    let status = try memory.load(UInt8.self, at: area.status(slot))
    if status != BlockRequestType.statusDone {
      try fault.note(Fault.status.rawValue, at: block, expected: 0, found: UInt64(status))
    }
    let expected = kind == .read ? UInt32(BlockContent.byteCount + 1) : 1
    if byteCount != expected {
      try fault.note(Fault.length.rawValue, at: block, expected: UInt64(expected), found: UInt64(byteCount))
    }
    switch kind {
    case .idle: break
    case .read: try check(block, in: slot)
    case .write: try memory.store(sequence, at: area.entry(block, of: .completed))
    case .flush: try copy(.flushing, to: .durable)
    }
    try cells.add(1, to: kind == .read ? .reads : kind == .write ? .writes : .flushes)
    try cells.add(1, to: .completed)
    try cells.set(.slot(slot, .kind), SlotKind.idle.rawValue)
  }

  private func check(_ block: UInt64, in slot: UInt64) throws(GuestError) {
    var found = [UInt8](repeating: 0, count: BlockContent.byteCount)
    try memory.load(into: &found, at: area.data(slot))
    let content = BlockContent(block: block, sequence: try sequence(ofBlock: block, in: .completed))
    guard let difference = PageContent.difference(content.bytes, found) else { return }
    try fault.note(
      Fault.content.rawValue, at: block << 32 | UInt64(difference.offset), expected: difference.expected,
      found: difference.found)
  }

  private func copy(_ table: Table, to other: Table) throws(GuestError) {
    var bytes = [UInt8](repeating: 0, count: 8 * Int(area.blockCount))
    try memory.load(into: &bytes, at: area.table(table))
    try memory.store(bytes: bytes, at: area.table(other))
  }
}

extension BlockDriver {
  /// Begins a request in each slot that is free.
  private func issue(_ random: inout GuestRandom) throws(GuestError) {
    for slot in 0..<area.slotCount where try cells.get(.slot(slot, .kind)) == SlotKind.idle.rawValue {
      let choice = random.below(32)
      let block = random.below(area.blockCount)
      if choice == 0 {
        if try !isAnySlot(.kind, SlotKind.flush.rawValue) { try issueFlush(slot) }
      } else if try !isBusy(block) {
        try issueTransfer(slot, block, isWrite: choice % 2 == 0)
      }
    }
  }

  private func isBusy(_ block: UInt64) throws(GuestError) -> Bool {
    for slot in 0..<area.slotCount {
      let kind = try cells.get(.slot(slot, .kind))
      let isTransfer = kind == SlotKind.read.rawValue || kind == SlotKind.write.rawValue
      if isTransfer, try cells.get(.slot(slot, .block)) == block { return true }
    }
    return false
  }

  private func isAnySlot(_ field: SlotField, _ value: UInt64) throws(GuestError) -> Bool {
    for slot in 0..<area.slotCount where try cells.get(.slot(slot, field)) == value { return true }
    return false
  }

  /// What was answered before is durable once the flush is answered (5.2.6.2).
  private func issueFlush(_ slot: UInt64) throws(GuestError) {
    guard try cells.get(.features) & BlockFeatureBit.flush != 0 else { return }
    try copy(.completed, to: .flushing)
    try issue(slot, .flush, BlockRequestType.flush, block: 0, sequence: 0)
  }

  private func issueTransfer(_ slot: UInt64, _ block: UInt64, isWrite: Bool) throws(GuestError) {
    var sequence: UInt64 = 0
    if isWrite {
      sequence = try cells.get(.nextSequence)
      try cells.set(.nextSequence, sequence &+ 1)
      try memory.store(bytes: BlockContent(block: block, sequence: sequence).bytes, at: area.data(slot))
    } else {
      // What the device does not write is nothing that was read before.
      try memory.store(bytes: [UInt8](repeating: 0xA5, count: BlockContent.byteCount), at: area.data(slot))
    }
    let type = isWrite ? BlockRequestType.write : BlockRequestType.read
    try issue(slot, isWrite ? .write : .read, type, block: block, sequence: sequence)
  }

  private func issue(
    _ slot: UInt64, _ kind: SlotKind, _ type: UInt32, block: UInt64, sequence: UInt64
  ) throws(GuestError) {
    let header = area.header(slot)
    try memory.store(UInt64(type), at: header)
    try memory.store(block &* BlockContent.sectorsPerBlock, at: header + 8)
    try memory.store(0xFF as UInt8, at: area.status(slot))
    var readable = [GuestBuffer(address: header, byteCount: BlockRequestType.headerByteCount)]
    var writable = [GuestBuffer(address: area.status(slot), byteCount: 1)]
    let data = GuestBuffer(address: area.data(slot), byteCount: BlockContent.byteCount)
    if kind == .write { readable.append(data) }
    if kind == .read { writable.insert(data, at: 0) }
    guard try queue.add(readable: readable, writable: writable, token: UInt32(slot)) else { return }
    try cells.set(.slot(slot, .block), block)
    try cells.set(.slot(slot, .sequence), sequence)
    try cells.set(.slot(slot, .kind), kind.rawValue)
    try cells.add(1, to: .issued)
  }
}

/// What the driver knows of its disk.
extension BlockDriver {
  /// How many blocks of 4096 bytes it uses.
  public var blockCount: UInt64 { area.blockCount }

  /// The sequence number of a block's last write, in one of the senses of `Table`; 0 for none.
  public func sequence(ofBlock block: UInt64, in table: Table) throws(GuestError) -> UInt64 {
    try memory.load(UInt64.self, at: area.entry(min(block, area.blockCount &- 1), of: table))
  }

  /// How many requests were made, and how many have been answered.
  public func requestCounts() throws(GuestError) -> (issued: UInt64, completed: UInt64) {
    (try cells.get(.issued), try cells.get(.completed))
  }

  /// How many reads, writes and flushes have been answered.
  public func answerCounts() throws(GuestError) -> (reads: UInt64, writes: UInt64, flushes: UInt64) {
    (try cells.get(.reads), try cells.get(.writes), try cells.get(.flushes))
  }

  /// How often the device has told of a change of its configuration.
  public func configurationChanges() throws(GuestError) -> UInt64 { try cells.get(.configurationChanges) }

  /// Whether the device asked for a reset; the driver then leaves it alone.
  public func isBroken() throws(GuestError) -> Bool { try cells.get(.isBroken) != 0 }

  func setResting(_ isResting: Bool) throws(GuestError) { try cells.set(.isResting, isResting ? 1 : 0) }

  /// The first thing that the device has done wrong, or nil.
  func mismatch() throws(GuestError) -> IntegrityReport.Mismatch? {
    try fault.mismatch { (code, place) in
      switch Fault(rawValue: code) {
      case .status: "status of a request for disk block \(place)"
      case .content: "disk block \(place >> 32), byte \(place & 0xFFFF_FFFF)"
      case .length: "bytes written for a request for disk block \(place)"
      case .slot, nil: "an answer to no request, \(place)"
      }
    }
  }
}
