import GuestRAM
import Support
import Testing
import VirtioCore

/// A device under test. What is checked of it is the same for every device.
protocol DeviceUnderTest: Sendable, CustomTestStringConvertible {
  // 2.1, 2.4
  func checkNothingIsServedBeforeDriverOK() throws
  func checkResetFromEveryStep() throws
  // 2.2
  func checkEverySubsetOfFeatures() throws
  func checkFeaturesNotOffered() throws
  // 2.5
  func checkConfigurationReads() throws
  func checkConfigurationWrites() throws
  // 2.7
  func checkRequestsPastTheWrap() throws
  func checkGarbageInTheRings() throws
  // Saving and restoring
  func checkMovingAfterAnyRequest() throws
  func checkMovingAfterEveryStep() throws
  func checkDamagedStates() throws
}

/// Every device that there is.
let devices: [any DeviceUnderTest] = [Harness.echo, Harness.balloon, Harness.block, Harness.net]

/// What the checks must know of a device to drive it: how one is made, and what requests look like.
struct Harness<Device: VirtioDevice & ~Copyable>: DeviceUnderTest {
  /// Where a request has its place.
  struct Place {
    var memory: GuestMemory
    /// 256 bytes that are the request's own.
    var room: UInt64
    /// The first of 16 pages that the device may change or take away.
    var pages: UInt64
  }

  let testDescription: String
  /// Makes a new device. All are alike.
  let make: @Sendable () -> Device
  /// Writes a sound request and describes it. Its queue is the one that it belongs to when all features are negotiated; the
  /// number tells requests apart.
  let request: @Sendable (_ queue: Int, _ number: Int, Place) throws -> [RingFixture.Buffer]

  func bench(ringSize: UInt16? = nil, index: UInt16 = 0) throws -> DeviceBench<Device> {
    try DeviceBench(make(), ringSize: ringSize, index: index)
  }
}

/// The steps of 3.1.1.
let driverSteps: [DeviceStatus] = [
  [.acknowledge], [.acknowledge, .driver], [.acknowledge, .driver, .featuresOK],
  [.acknowledge, .driver, .featuresOK, .driverOK],
]

extension DeviceBench where Device: ~Copyable {
  /// All features that are offered, but for `VIRTIO_F_IN_ORDER`, with which a used ring reads differently.
  var features: Features {
    var features = host.offeredFeatures
    features.remove(.inOrder)
    return features
  }

  /// Makes a request available on a queue and kicks it.
  mutating func ask(_ harness: Harness<Device>, _ number: Int, on queue: Int) throws {
    let place = Harness<Device>.Place(
      memory: memory, room: heap + UInt64(number % 128) * 256, pages: heap + Self.heapByteCount - 16 * 4096)
    let buffers = try harness.request(queue, number, place)
    _ = try rings[queue].takeAllUsed()
    _ = try rings[queue].send(buffers)
    host.kick(queue)
  }

  /// Asks requests of each queue in turn. What is still in flight is finished before the next.
  mutating func ask(_ harness: Harness<Device>, _ numbers: Range<Int>) throws {
    for number in numbers {
      host.wake()
      try ask(harness, number, on: number % rings.count)
    }
  }

  /// Lets the driver begin anew on the same device: its rings are empty again.
  mutating func restart(_ features: Features) throws {
    try host.writeStatus([])
    for queue in rings.indices {
      rings[queue] = try RingFixture(
        size: rings[queue].size, memory: memory, at: rings[queue].descriptorTable.rawValue, indirectCapacity: 8)
    }
    try start(features)
  }
}
