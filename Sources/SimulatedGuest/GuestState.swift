public import DeviceState

/// The guest's registers: all of its state that is not in its memory.
public struct GuestState: SavedState {
  public static let section = "guest"
  public static let version = 2

  /// The guest-physical address from which everything else is found.
  public var bootBlock: UInt64 = 0
  /// The random generator's state.
  public var random: UInt64 = 0
  /// How many steps the guest has done.
  public var tick: UInt64 = 0
  public var workload = Workload.idle
  /// How many pages the workload touches in a step.
  public var pagesPerStep: UInt32 = 0
  /// How far the workload has come.
  public var position: UInt64 = 0
  /// Interrupts of the balloon that its driver has not looked at, a bit a queue.
  public var pendingQueues: UInt64 = 0
  public var pendingConfiguration = false
  /// Interrupts of the block device that its driver has not looked at.
  public var pendingBlockQueues: UInt64 = 0
  public var pendingBlockConfiguration = false
  /// Interrupts of the network card that its driver has not looked at.
  public var pendingNetQueues: UInt64 = 0
  public var pendingNetConfiguration = false

  public init() {}

  public mutating func code(with coder: inout some StateCoder) throws(StateError) {
    try coder.field("bootBlock", &bootBlock)
    try coder.field("random", &random)
    try coder.field("tick", &tick)
    try coder.field("workload", &workload)
    try coder.field("pagesPerStep", &pagesPerStep)
    try coder.field("position", &position)
    try coder.field("pendingQueues", &pendingQueues)
    try coder.field("pendingConfiguration", &pendingConfiguration)
    try coder.field("pendingBlockQueues", &pendingBlockQueues, since: 2, else: 0)
    try coder.field("pendingBlockConfiguration", &pendingBlockConfiguration, since: 2, else: false)
    try coder.field("pendingNetQueues", &pendingNetQueues, since: 2, else: 0)
    try coder.field("pendingNetConfiguration", &pendingNetConfiguration, since: 2, else: false)
  }
}

extension GuestState {
  var pendingBalloon: Interrupts {
    get { Interrupts(queues: pendingQueues, configuration: pendingConfiguration) }
    set { (pendingQueues, pendingConfiguration) = (newValue.queues, newValue.configuration) }
  }

  var pendingBlock: Interrupts {
    get { Interrupts(queues: pendingBlockQueues, configuration: pendingBlockConfiguration) }
    set { (pendingBlockQueues, pendingBlockConfiguration) = (newValue.queues, newValue.configuration) }
  }

  var pendingNet: Interrupts {
    get { Interrupts(queues: pendingNetQueues, configuration: pendingNetConfiguration) }
    set { (pendingNetQueues, pendingNetConfiguration) = (newValue.queues, newValue.configuration) }
  }
}
