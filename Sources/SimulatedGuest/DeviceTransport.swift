public import GuestRAM
public import LinuxIO
import Synchronization
public import VirtioCore

/// What the guest's drivers need of whatever leads to a device: the fields and operations of 4, in plain numbers.
///
/// The numbers are the specification's and are written down by the driver itself.
public protocol DeviceTransport: AnyObject {
  /// Feature bits 0 to 63 that the device offers.
  func readFeatures() throws(TransportError) -> UInt64
  /// The feature bits that the driver chooses. Whether they are accepted, the status tells.
  func writeFeatures(_ features: UInt64) throws(TransportError)
  /// The device status field (2.1).
  func readStatus() throws(TransportError) -> UInt8
  /// Sets the device status field; 0 resets the device.
  func writeStatus(_ status: UInt8) throws(TransportError)
  /// Bytes of the configuration space; what is behind its end is 0.
  func readConfig(at offset: Int, byteCount: Int) throws(TransportError) -> [UInt8]
  func writeConfig(_ bytes: [UInt8], at offset: Int) throws(TransportError)
  /// Changes whenever the configuration space does without the driver (2.5.1).
  func configGeneration() throws(TransportError) -> UInt32
  /// The largest size of a queue, or 0 when the device has no such queue.
  func largestQueueSize(of queue: Int) throws(TransportError) -> UInt16
  /// Tells the device where a queue is, and starts it.
  func startQueue(_ queue: Int, _ addresses: QueueAddresses) throws(TransportError)
  /// Available buffer notification (2.3): there are buffers on a queue.
  func notify(queue: Int) throws(TransportError)
  /// The interrupts since this was last asked, which are then forgotten.
  func takeInterrupts() -> Interrupts
}

/// Where a driver has put a queue, and how large it is.
public struct QueueAddresses: Equatable, Sendable {
  public var size: UInt16
  public var descriptorTable: GuestAddress
  public var availableRing: GuestAddress
  public var usedRing: GuestAddress
}

/// The interrupts that wait for a driver.
public struct Interrupts: Equatable, Sendable {
  /// A bit for each queue with used buffers, by its number; the drivers here have no more than 64.
  public var queues: UInt64 = 0
  /// Whether the device's configuration or status has changed.
  public var configuration = false

  public init() {}

  init(queues: UInt64, configuration: Bool) {
    self.queues = queues
    self.configuration = configuration
  }

  /// Everything: what a driver looks at when it does not know what it missed.
  public static var all: Interrupts {
    var interrupts = Interrupts()
    interrupts.queues = .max
    interrupts.configuration = true
    return interrupts
  }

  public var isEmpty: Bool { queues == 0 && !configuration }

  public func contains(queue: Int) -> Bool {
    (0..<64).contains(queue) && queues >> UInt64(queue) & 1 != 0
  }

  public mutating func insert(queue: Int) {
    if (0..<64).contains(queue) { queues |= 1 << UInt64(queue) }
  }

  /// Notes what a device has to tell. A broken queue shows in the device status.
  public mutating func insert(_ notification: DeviceNotification) {
    switch notification {
    case .queue(let queue): insert(queue: queue)
    case .configuration: configuration = true
    case .broken: break
    }
  }

  public mutating func formUnion(_ other: Interrupts) {
    queues |= other.queues
    configuration = configuration || other.configuration
  }
}

/// Where a device leaves its interrupts until the driver looks, on whatever threads the two are.
public final class InterruptLatch: Sendable {
  private let pending = Mutex(Interrupts())
  private let wake: @Sendable () -> Void

  /// - Parameter wake: called on the device's thread behind each interrupt, for a guest that sleeps meanwhile.
  public init(wake: @escaping @Sendable () -> Void = {}) {
    self.wake = wake
  }

  /// What to give a `DeviceHost` as its `notify`.
  public func insert(_ notification: DeviceNotification) {
    pending.withLock { $0.insert(notification) }
    wake()
  }

  /// The interrupts since this was last asked, which are then forgotten.
  public func take() -> Interrupts {
    pending.withLock { pending in
      defer { pending = Interrupts() }
      return pending
    }
  }
}

/// Why a transport did not do what a driver asked.
public enum TransportError: Error, Equatable, Sendable {
  /// The device refused.
  case refused(HostError)
  /// The device is not there any more.
  case gone
  /// The kernel refused what the transport needs.
  case system(LinuxError)
}

extension TransportError: CustomStringConvertible {
  public var description: String {
    switch self {
    case .refused(let error): error.description
    case .gone: "the device is gone"
    case .system(let error): error.description
    }
  }
}
