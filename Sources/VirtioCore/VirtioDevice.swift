public import DeviceState
public import Virtqueue

/// A device model: what the device does with its queues, and nothing of how a driver reaches it.
///
/// A model owns no thread, no file descriptor and no queue. Its host calls it, one call at a time, and after each call
/// publishes what was given back and decides from the rings whether the driver wants to be told.
public protocol VirtioDevice: ~Copyable, SendableMetatype {
  /// All that must survive a migration.
  associatedtype State: SavedState

  static var id: DeviceID { get }

  /// The names of the device's own features, by bit, as the specification has them without their prefix.
  static var featureNames: [Int: String] { get }

  /// The device's own feature bits. The host adds those of rings and transports.
  var offeredFeatures: Features { get }

  /// The largest size of each virtqueue; each a power of two. Its count is the number of virtqueues.
  var queueSizes: [UInt16] { get }

  /// The configuration space as a driver reads it now, for the features negotiated or, before, offered.
  var config: [UInt8] { get }

  /// What a driver has been told of this device, beside features and queues, and must find again where its guest is moved to.
  func constants() -> [DeviceConstant]

  /// Takes what the driver wrote into configuration space: bytes within `config`, at most as many.
  mutating func writeConfig(_ bytes: ArraySlice<UInt8>, at offset: Int)

  /// The features are agreed; queues will be served from now on.
  mutating func start(with features: Features)

  /// The first queue is about to run, or the last one has stopped: time to take, or to let go of, what only one device
  /// may use at a time. A paused device runs none: one that goes on from elsewhere hears of it when it is resumed.
  mutating func setRunning(_ isRunning: Bool)

  /// Whether somebody else, such as a thread, is at requests of this device, and will have the model woken when done.
  var hasWorkElsewhere: Bool { get }

  /// Whether buffers of a queue that a transport has disabled are given back unread, instead of waiting until it is enabled:
  /// as for a network device's transmit queues, whose packets are to be dropped.
  func discardsWhileDisabled(_ index: Int) -> Bool

  /// For how long the driver wants used buffer notifications of a queue kept back; nil when it wants each at once.
  func notificationLimits(of index: Int) -> NotificationLimits?

  /// Whether the model waits for the driver to make buffers available on a queue. Where it does not, no kicks are asked for:
  /// as for a network device's receive queues, while there is no packet to put there.
  func awaitsBuffers(of index: Int) -> Bool

  /// The driver made buffers available on a queue.
  ///
  /// Other queues may be used too if `isRunning`. Take `&queues[index]` once for a batch, not for each chain.
  mutating func serve(_ index: Int, of queues: inout QueueSet) throws(VirtqueueError)

  /// A backend, a timer or the operator has news. In a paused device, where no queue runs, it finishes what is in flight.
  mutating func wake(_ queues: inout QueueSet) throws(VirtqueueError)

  /// The device's thread is awake and has nothing else to do: looks whether a backend has news that it would not tell of.
  /// - Returns: whether there was any.
  mutating func poll(_ queues: inout QueueSet) throws(VirtqueueError) -> Bool

  /// One queue was reset or set up anew: forget what was kept of its buffers (2.6.1).
  mutating func resetQueue(_ index: Int)

  /// Back to the state before any driver came. What the operator has set stays.
  mutating func reset()

  var state: State { get }

  /// Goes on from a state saved elsewhere, after `start` if a driver had come. Checked like any other input.
  mutating func adopt(_ state: State) throws(StateError)
}

extension VirtioDevice where Self: ~Copyable {
  public static var featureNames: [Int: String] { [:] }
  public func constants() -> [DeviceConstant] { [] }
  public mutating func wake(_ queues: inout QueueSet) throws(VirtqueueError) {}
  public mutating func poll(_ queues: inout QueueSet) throws(VirtqueueError) -> Bool { false }
  public mutating func resetQueue(_ index: Int) {}
  public mutating func setRunning(_ isRunning: Bool) {}
  public var hasWorkElsewhere: Bool { false }
  public func discardsWhileDisabled(_ index: Int) -> Bool { false }
  public func notificationLimits(of index: Int) -> NotificationLimits? { nil }
  public func awaitsBuffers(of index: Int) -> Bool { true }
  public mutating func writeConfig(_ bytes: ArraySlice<UInt8>, at offset: Int) {}
}
