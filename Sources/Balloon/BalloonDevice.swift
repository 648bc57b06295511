public import GuestRAM
public import LinuxIO
public import VirtioCore
public import Virtqueue

/// The traditional memory balloon (5.5): the guest gives pages up, the reclaimer hands them to the host.
///
/// Timers live outside: `wake` of the host asks for new statistics when they are due.
public struct BalloonDevice<Reclaimer: PageReclaimer>: ~Copyable, VirtioDevice {
  public static var id: DeviceID { .balloon }
  public static var featureNames: [Int: String] { Feature.balloonNames }

  public let options: BalloonOptions
  public var reclaimer: Reclaimer
  /// Whether pages stay with the guest although it gives them up: while an incoming migration still fills them, or
  /// while something else holds them in place. Requests are answered all the same.
  public var isReclaimInhibited = false
  /// What the device has counted.
  public internal(set) var counters = BalloonCounters()
  /// Why the host last refused to take pages back; nil if it never did.
  public internal(set) var lastFailure: GuestMemoryError?

  /// Which queue does what with the driver that there is now.
  public internal(set) var queueRoles: BalloonQueues

  let clock: () -> UInt64
  var features: Features = []
  var fields = BalloonConfig()
  var statistics = StatisticsDesk()
  var hints = HintSession()

  /// Room that requests use in turn.
  var runs = PageRuns()
  var ranges: [GuestRange] = []
  var parts: [GuestRange] = []
  var readable: [GuestBuffer] = []
  var writable: [GuestBuffer] = []

  /// - Parameter clock: nanoseconds since whatever moment; never goes back.
  public init(
    _ options: BalloonOptions = BalloonOptions(), reclaimer: Reclaimer,
    clock: @escaping () -> UInt64 = { MonotonicClock.now }
  ) {
    self.options = options
    self.reclaimer = reclaimer
    self.clock = clock
    queueRoles = BalloonQueues(features: [], numbering: options.numbering)
  }

  public var offeredFeatures: Features { options.features }

  public var queueSizes: [UInt16] { options.queueSizes }

  /// 8, 12 or 16 bytes, by the features offered.
  public var config: [UInt8] {
    var fields = fields
    fields.hintCommand = hints.command
    return fields.bytes(offered: offeredFeatures)
  }

  public mutating func writeConfig(_ bytes: ArraySlice<UInt8>, at offset: Int) {
    fields.write(bytes, at: offset)
  }

  public mutating func start(with features: Features) {
    self.features = features
    queueRoles = BalloonQueues(features: features, numbering: queueRoles.numbering)
  }

  public mutating func serve(_ index: Int, of queues: inout QueueSet) throws(VirtqueueError) {
    let memory = queues.memory
    switch queueRoles.role(of: index) {
    case .inflate: if try inflate(&queues[index], memory) { queues.serveLater(index) }
    case .deflate: if try deflate(&queues[index], memory) { queues.serveLater(index) }
    case .statistics: try receiveStatistics(&queues[index])
    case .hinting: try receiveHints(&queues[index], memory)
    case .reporting: try receiveReports(&queues[index], memory)
    case nil: break
    }
  }

  public mutating func wake(_ queues: inout QueueSet) throws(VirtqueueError) {
    guard let index = queueRoles.index(of: .statistics), queues.isRunning(index) else { return }
    if statistics.isDue(at: clock()) { try refreshStatistics(&queues[index]) }
  }

  public mutating func resetQueue(_ index: Int) {
    if queueRoles.role(of: index) == .statistics { statistics.isHeld = false }
  }

  public mutating func reset() {
    features = []
    queueRoles = BalloonQueues(features: [], numbering: queueRoles.numbering)
    fields.actualPages = 0
    fields.poisonValue = 0
    hints.end(with: HintSession.stop)
    statistics.forgetReports()
    counters.inflatedPages = 0
    counters.deflatedPages = 0
    reclaimer.reset()
  }
}
