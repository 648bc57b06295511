public import GuestRAM
public import VirtioCore
import Virtqueue

/// A device on the guest's own thread: each notification is served before it returns.
public final class DirectTransport<Device: VirtioDevice & ~Copyable>: DeviceTransport {
  /// The device and what all devices have alike: for operators, and for saving and restoring it.
  public var host: DeviceHost<Device>
  private let latch: InterruptLatch

  /// - Parameters:
  ///   - ringFeatures: what of rings and transports to offer beside the device's own features.
  ///   - memory: the guest's.
  public init(
    _ device: consuming Device, ringFeatures: Features = DeviceHost<Device>.defaultRingFeatures, memory: GuestMemory
  ) throws(TransportError) {
    let latch = InterruptLatch()
    self.latch = latch
    host = DeviceHost(device, ringFeatures: ringFeatures) { latch.insert($0) }
    do throws(HostError) { try host.attach(memory) } catch { throw .refused(error) }
  }

  public func readFeatures() -> UInt64 { host.offeredFeatures.low }

  public func writeFeatures(_ features: UInt64) {
    host.writeFeatures(Features(low: features))
  }

  public func readStatus() -> UInt8 { host.status.rawValue }

  public func writeStatus(_ status: UInt8) throws(TransportError) {
    do throws(HostError) { try host.takeStatus(status) } catch { throw .refused(error) }
  }

  public func readConfig(at offset: Int, byteCount: Int) -> [UInt8] {
    host.readConfig(at: offset, byteCount: byteCount)
  }

  public func writeConfig(_ bytes: [UInt8], at offset: Int) throws(TransportError) {
    do throws(HostError) { try host.writeConfig(bytes, at: offset) } catch { throw .refused(error) }
  }

  public func configGeneration() -> UInt32 { host.configGeneration }

  public func largestQueueSize(of queue: Int) -> UInt16 {
    host.largestQueueSize(of: queue)
  }

  public func startQueue(_ queue: Int, _ addresses: QueueAddresses) throws(TransportError) {
    do throws(HostError) { try host.startQueue(queue, addresses.configuration) } catch { throw .refused(error) }
  }

  public func notify(queue: Int) {
    // The driver adds nothing meanwhile, so what is there comes to an end.
    while host.kick(queue) {}
  }

  public func takeInterrupts() -> Interrupts { latch.take() }
}

/// What transports to a host have in common.
extension DeviceHost where Device: ~Copyable {
  /// Takes a step of 3.1.1 as a register write does: of refused features a driver sees only that FEATURES_OK stays unset.
  mutating func takeStatus(_ status: UInt8) throws(HostError) {
    do throws(HostError) {
      try writeStatus(DeviceStatus(rawValue: status))
    } catch {
      switch error {
      case .featuresNotOffered, .legacyDriver: return
      default: throw error
      }
    }
  }

  func largestQueueSize(of queue: Int) -> UInt16 {
    let sizes = device.queueSizes
    return sizes.indices.contains(queue) ? sizes[queue] : 0
  }
}

extension QueueAddresses {
  /// The same in a device's words.
  var configuration: QueueConfiguration {
    QueueConfiguration(
      size: size, descriptorTable: descriptorTable, availableRing: availableRing, usedRing: usedRing)
  }
}
