public import GuestRAM

/// What a guest is made of when it boots.
public struct GuestConfiguration: Sendable {
  /// Everything that the guest does follows from it.
  public var seed: UInt64
  /// The RAM disk's size in pages of 4096 bytes.
  public var diskPages: UInt32
  /// How many pages there are in files to read; nil for as many as the guest has memory.
  public var filePages: UInt32?
  /// The working set of the dirtying workload, in pages; nil for an eighth of memory.
  public var workingSetPages: UInt32?
  /// How many pages the pressure workload allocates; nil for as many as the guest has memory, so more than there are.
  public var anonymousPages: UInt32?
  /// What free pages are filled with, if they are.
  public var poison: UInt32?
  public var workload: Workload
  /// How many pages the workload touches in a step.
  public var pagesPerStep: UInt32
  public var balloon: BalloonDriver.Options
  public var block = BlockDriver.Options()
  public var net = NetDriver.Options()

  public init(
    seed: UInt64, diskPages: UInt32 = 256, filePages: UInt32? = nil, workingSetPages: UInt32? = nil,
    anonymousPages: UInt32? = nil, poison: UInt32? = nil, workload: Workload = .idle, pagesPerStep: UInt32 = 64,
    balloon: BalloonDriver.Options = BalloonDriver.Options()
  ) {
    self.seed = seed
    self.diskPages = diskPages
    self.filePages = filePages
    self.workingSetPages = workingSetPages
    self.anonymousPages = anonymousPages
    self.poison = poison
    self.workload = workload
    self.pagesPerStep = pagesPerStep
    self.balloon = balloon
  }
}

/// What leads to a guest's devices; nil for those that it has not.
public struct GuestDevices {
  public var balloon: (any DeviceTransport)?
  public var block: (any DeviceTransport)?
  public var net: (any DeviceTransport)?

  public init(
    balloon: (any DeviceTransport)? = nil, block: (any DeviceTransport)? = nil, net: (any DeviceTransport)? = nil
  ) {
    self.balloon = balloon
    self.block = block
    self.net = net
  }
}

/// A small guest: memory with an allocator, a RAM disk, a workload, and drivers of the devices that it has.
///
/// It runs in steps, each a bounded piece of work that waits for nothing. All of its state is in its memory and in
/// `state`, so from these two it goes on elsewhere, exactly as it would have here.
public struct Guest {
  public let memory: GuestMemory
  public let allocator: GuestAllocator
  /// The driver, if the guest has a balloon.
  public private(set) var balloon: BalloonDriver?
  /// The driver, if the guest has a disk beside the one in its memory.
  public private(set) var block: BlockDriver?
  /// The driver, if the guest has a network card.
  public private(set) var net: NetDriver?
  let supply: PageSupply
  let disk: PageCollection
  let workingSet: PageCollection
  let anonymous: PageCollection
  let seed: UInt64
  var random: GuestRandom
  var registers: GuestState

  /// Goes on with a guest that is in this memory.
  ///
  /// - Parameters:
  ///   - state: its registers.
  ///   - transport: leads to its balloon, which goes on as well; needed if the guest has one.
  public init(
    restoring state: GuestState, in memory: GuestMemory, balloon transport: (any DeviceTransport)? = nil
  ) throws(GuestError) {
    try self.init(restoring: state, in: memory, GuestDevices(balloon: transport))
  }

  /// Goes on with a guest that is in this memory.
  ///
  /// - Parameters:
  ///   - state: its registers.
  ///   - devices: lead to all of its devices, which go on as well.
  public init(restoring state: GuestState, in memory: GuestMemory, _ devices: GuestDevices) throws(GuestError) {
    guard state.bootBlock == 0 else { throw .damaged(field: "boot block", value: state.bootBlock) }
    self.memory = memory
    allocator = try GuestAllocator(in: memory)
    supply = try PageSupply(allocator)
    disk = try PageCollection(.disk, of: allocator)
    workingSet = try PageCollection(.workingSet, of: allocator)
    anonymous = try PageCollection(.anonymous, of: allocator)
    seed = try allocator.boot.get(.seed)
    random = GuestRandom(state: state.random)
    registers = state
    let (boot, supply) = (allocator.boot, supply)
    balloon = try Self.driver(at: boot.get(.balloonPage), devices.balloon) { (page, transport) throws(GuestError) in
      try BalloonDriver(at: page, transport: transport, supply: supply, pending: state.pendingBalloon)
    }
    block = try Self.driver(at: boot.get(.blockPage), devices.block) { (page, transport) throws(GuestError) in
      try BlockDriver(at: page, transport: transport, memory: memory, pending: state.pendingBlock)
    }
    net = try Self.driver(at: boot.get(.netPage), devices.net) { (page, transport) throws(GuestError) in
      try NetDriver(at: page, transport: transport, memory: memory, pending: state.pendingNet)
    }
  }

  private static func driver<Driver>(
    at page: UInt64, _ transport: (any DeviceTransport)?,
    _ make: (GuestAddress, any DeviceTransport) throws(GuestError) -> Driver
  ) throws(GuestError) -> Driver? {
    guard page != 0 else { return nil }
    guard let transport else { throw .transport(.gone) }
    return try make(GuestAddress(page), transport)
  }

  /// Boots a guest in fresh memory: writes its tables and its disk, and starts the balloon if there is one.
  ///
  /// - Parameters:
  ///   - memory: one stretch from address 0, all zeros, in whole pages.
  ///   - transport: leads to a balloon; nil for a guest without.
  public static func boot(
    _ configuration: GuestConfiguration, in memory: GuestMemory, balloon transport: (any DeviceTransport)? = nil
  ) throws(GuestError) -> Guest {
    try boot(configuration, in: memory, GuestDevices(balloon: transport))
  }

  /// Boots a guest in fresh memory: writes its tables and the disk that it has in its memory, and starts its devices.
  ///
  /// - Parameters:
  ///   - memory: one stretch from address 0, all zeros, in whole pages.
  ///   - devices: lead to the devices that the guest has.
  public static func boot(
    _ configuration: GuestConfiguration, in memory: GuestMemory, _ devices: GuestDevices
  ) throws(GuestError) -> Guest {
    let allocator = try GuestAllocator.format(memory)
    try allocator.boot.set(.seed, configuration.seed)
    let count = allocator.pageCount
    let capacities: [(PageCollection.Name, UInt32)] = [
      (.disk, configuration.diskPages), (.cache, configuration.filePages ?? count),
      (.workingSet, configuration.workingSetPages ?? count / 8), (.anonymous, configuration.anonymousPages ?? count),
    ]
    for (name, capacity) in capacities { try PageCollection.format(name, capacity: capacity, in: allocator) }

    var state = GuestState()
    state.random = GuestRandom.mix(configuration.seed)
    state.workload = configuration.workload
    state.pagesPerStep = configuration.pagesPerStep
    var guest = try Guest(restoring: state, in: memory)
    try guest.writeDisk()
    if let poison = configuration.poison {
      try allocator.boot.set(.poison, UInt64(poison))
      try allocator.boot.set(.isPoisoning, 1)
    }
    try guest.start(devices, configuration)
    return guest
  }

  private mutating func start(_ devices: GuestDevices, _ configuration: GuestConfiguration) throws(GuestError) {
    if let transport = devices.balloon {
      balloon = try BalloonDriver.start(
        configuration.balloon, poison: configuration.poison, transport: transport, supply: supply)
    }
    if let transport = devices.block {
      block = try BlockDriver.start(configuration.block, transport: transport, allocator: allocator)
    }
    if let transport = devices.net {
      net = try NetDriver.start(configuration.net, transport: transport, allocator: allocator)
    }
  }

  private func writeDisk() throws(GuestError) {
    for number in 0..<disk.capacity {
      guard let page = try allocator.allocate(.disk) else {
        throw .tooSmall(pageCount: UInt64(allocator.pageCount), wanted: UInt64(disk.capacity))
      }
      try fill(disk, number, page, generation: 0)
    }
  }
}

extension Guest {
  /// Does a bounded piece of the driver's work and of the workload's.
  public mutating func step() throws(GuestError) {
    try balloon?.step(at: registers.tick)
    try block?.step(&random)
    try net?.step()
    try work()
    registers.tick &+= 1
  }

  /// Does some steps.
  public mutating func run(steps: Int) throws(GuestError) {
    for _ in 0..<steps { try step() }
  }

  /// The balloon has used buffers on a queue. Transports that keep their interrupts until asked need not say so.
  public mutating func interrupt(queue: Int) {
    balloon?.pending.insert(queue: queue)
  }

  /// The balloon's configuration or status has changed.
  public mutating func configurationChanged() {
    balloon?.pending.configuration = true
  }

  /// The registers, to be saved with the memory. Interrupts that the transport still keeps are taken into them.
  public mutating func save() -> GuestState {
    if let transport = balloon?.transport { balloon?.pending.formUnion(transport.takeInterrupts()) }
    if let transport = block?.transport { block?.pending.formUnion(transport.takeInterrupts()) }
    if let transport = net?.transport { net?.pending.formUnion(transport.takeInterrupts()) }
    var state = registers
    state.random = random.state
    state.pendingBalloon = balloon?.pending ?? Interrupts()
    state.pendingBlock = block?.pending ?? Interrupts()
    state.pendingNet = net?.pending ?? Interrupts()
    return state
  }

  /// Goes on with another map of the same memory, as when a dirty log is put in or taken out.
  public mutating func use(_ memory: GuestMemory) throws(GuestError) {
    let devices = GuestDevices(balloon: balloon?.transport, block: block?.transport, net: net?.transport)
    self = try Guest(restoring: save(), in: memory, devices)
  }

  /// Has the drivers of disk and card make no new requests, as before a look at all that they have done, or make them
  /// again.
  public func rest(_ isResting: Bool) throws(GuestError) {
    try block?.setResting(isResting)
    try net?.setResting(isResting)
  }

  /// Whether disk and card owe no answer.
  public func isAnswered() throws(GuestError) -> Bool {
    let (requests, packets) = (try block?.requestCounts(), try net?.counts())
    return requests?.issued == requests?.completed && packets?.sent == packets?.taken
  }

  /// How many steps the guest has done.
  public var tick: UInt64 { registers.tick }

  /// What the guest's programs do.
  public var workload: Workload {
    get { registers.workload }
    set { registers.workload = newValue }
  }

  /// How many pages the workload touches in a step.
  public var pagesPerStep: UInt32 {
    get { registers.pagesPerStep }
    set { registers.pagesPerStep = newValue }
  }

  /// What the guest says of its memory.
  public func figures() throws(GuestError) -> GuestFigures {
    try GuestFigures(allocator, totalShrinks: balloon.map { !$0.features.contains(.deflateOnOOM) } ?? true)
  }

  /// What the guest has counted since it booted.
  public func count(of counter: GuestCounter) throws(GuestError) -> UInt64 {
    try allocator.boot.get(.counter(counter))
  }
}
