public import DeviceState
public import LinuxIO
public import Virtqueue

/// Why a transport's request to a device was refused.
public enum HostError: Error, Equatable, Sendable {
  /// Features that the device did not offer.
  case featuresNotOffered(Features, offered: Features)
  /// `VIRTIO_F_VERSION_1` is missing.
  case legacyDriver
  /// The features cannot change while queues run.
  case queuesRunning
  /// A status that may not follow the present one (2.1.1).
  case illegalStatus(DeviceStatus, after: DeviceStatus)
  /// The queue was started and not stopped.
  case queueRunning(Int)
  /// The device has no queue of this number.
  case noSuchQueue(Int, count: Int)
  /// The driver wants a larger queue than the device has.
  case queueTooLarge(UInt16, most: UInt16)
  /// The guest's memory is not known, so no queue can start and there are no rings to save.
  case noMemory
  /// Chains are still being served; let `wake` finish them first.
  case chainsInFlight(queue: Int, count: UInt16)
  /// What the device has begun is still at work; let `wake` finish it first.
  case workElsewhere
  /// State is saved only from a paused device.
  case notPaused
  /// Requests were still under way after so long.
  case stillBusy(Duration)
  /// The device's thread has ended.
  case gone
  /// The kernel refused what the device's thread needs.
  case system(LinuxError)
  /// A write outside the configuration space.
  case configOutOfRange(offset: Int, byteCount: Int, size: Int)
  /// The state is of another kind of device.
  case otherDevice(UInt32, isHere: UInt32)
  /// The used index in the guest's memory is not the saved one, so memory and state do not belong together.
  case memoryDoesNotFit(queue: Int, used: UInt16, saved: UInt16)
  /// A ring that cannot be set up.
  case virtqueue(VirtqueueError)
  /// A state that cannot be read or does not make sense.
  case state(StateError)
}

extension HostError: CustomStringConvertible {
  public var description: String {
    switch self {
    case .featuresNotOffered(let features, let offered):
      "the driver wants features that are not offered: \(features.subtracting(offered)) (offered: \(offered))"
    case .legacyDriver: "the driver does not speak virtio 1: VIRTIO_F_VERSION_1 is missing"
    case .queuesRunning: "features cannot change while queues run"
    case .queueRunning(let index): "queue \(index) runs already"
    case .illegalStatus(let new, let old): "device status \(new.rawValue) may not follow \(old.rawValue)"
    case .noSuchQueue(let index, let count): "queue \(index) of a device that has \(count)"
    case .queueTooLarge(let size, let most): "queue size \(size), where the device has at most \(most)"
    case .noMemory: "the guest's memory is not known yet"
    case .chainsInFlight(let queue, let count): "\(count) chains of queue \(queue) are still being served"
    case .workElsewhere: "what the device has begun is still at work"
    case .notPaused: "the device must be paused first"
    case .stillBusy(let limit): "requests are still being served after \(limit)"
    case .gone: "the device's thread has ended"
    case .system(let error): error.description
    case .configOutOfRange(let offset, let byteCount, let size):
      "\(byteCount) bytes at offset \(offset) are outside a configuration space of \(size)"
    case .otherDevice(let id, let here): "the state is of device type \(id), this is device type \(here)"
    case .memoryDoesNotFit(let queue, let used, let saved):
      "queue \(queue): used index \(used) in memory, \(saved) in the state; they do not belong together"
    case .virtqueue(let error): error.description
    case .state(let error): String(describing: error)
    }
  }
}
