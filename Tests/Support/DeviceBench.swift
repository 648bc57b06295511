public import DeviceState
public import GuestRAM
public import VirtioCore
import Virtqueue

/// A device in its host, and a driver's rings for each of its queues in memory of their own.
public struct DeviceBench<Device: VirtioDevice & ~Copyable>: ~Copyable {
  /// What the device told its driver, in order.
  public final class Notifications {
    public var all: [DeviceNotification] = []

    /// Takes what came since the last time.
    public func take() -> [DeviceNotification] {
      defer { all = [] }
      return all
    }
  }

  public var host: DeviceHost<Device>
  public let notifications = Notifications()
  public var rings: [RingFixture]
  public private(set) var memory: GuestMemory
  /// Where buffers may lie, `heapByteCount` bytes of them.
  public private(set) var heap: UInt64

  /// The room for buffers, in bytes.
  public static var heapByteCount: UInt64 { 1 << 18 }

  /// - Parameters:
  ///   - ringSize: the rings' size; the device's largest when nil.
  ///   - index: what the rings start from.
  public init(_ device: consuming Device, ringSize: UInt16? = nil, index: UInt16 = 0) throws {
    let sizes = device.queueSizes.map { min($0, ringSize ?? $0) }
    let perRing = (UInt64(sizes.max() ?? 1) * (26 + 16 * 8) + 0x3000) / 4096 * 4096
    let heap = 0x1000 + UInt64(sizes.count) * perRing
    let memory = try GuestMemory(byteCount: heap + Self.heapByteCount)
    let rings = try sizes.enumerated().map { number, size in
      try RingFixture(
        size: size, memory: memory, at: 0x1000 + UInt64(number) * perRing, index: index, indirectCapacity: 8)
    }
    self.heap = heap
    self.memory = memory
    self.rings = rings
    let notifications = notifications
    host = DeviceHost(device) { notifications.all.append($0) }
  }

  /// Takes every step of 3.1.1 and starts every queue before DRIVER_OK.
  public mutating func start(_ features: Features = [.version1], queues: [Int]? = nil) throws {
    try host.attach(memory)
    try host.writeStatus([.acknowledge])
    try host.writeStatus([.acknowledge, .driver])
    host.writeFeatures(features)
    try host.writeStatus([.acknowledge, .driver, .featuresOK])
    for queue in queues ?? Array(rings.indices) { try host.startQueue(queue, rings[queue].configuration()) }
    try host.writeStatus([.acknowledge, .driver, .featuresOK, .driverOK])
  }

  /// Starts every queue as a transport without the status does.
  public mutating func startWithoutStatus(_ features: Features = [.version1]) throws {
    try host.attach(memory)
    try host.acceptFeatures(features)
    for queue in rings.indices { try host.startQueue(queue, rings[queue].configuration()) }
  }

  public func save() throws -> Snapshot {
    var snapshot = Snapshot()
    try host.save(into: &snapshot)
    return snapshot
  }

  /// The same driver, with a copy of its memory as it is now, on another device that is not started.
  public func moved(to device: consuming Device) throws -> DeviceBench {
    var other = try DeviceBench(device)
    try other.become(self)
    return other
  }

  private mutating func become(_ other: borrowing DeviceBench) throws {
    memory = try other.memory.copied()
    rings = other.rings
    heap = other.heap
    for number in rings.indices { rings[number].memory = memory }
  }
}

extension GuestMemory {
  /// A map of the same regions with a copy of what they hold.
  public func copied() throws -> GuestMemory {
    let copy = try GuestMemory(
      regions: regions.map { try MemoryRegion(memoryFile: $0.range.byteCount, start: $0.range.start) })
    for region in regions {
      try copy.write(bytes: readBytes(Int(region.range.byteCount), at: region.range.start), at: region.range.start)
    }
    return copy
  }
}

extension DeviceBench<EchoDevice> {
  /// Makes a chain available on a queue: the bytes, then room for as many. Nobody is kicked.
  ///
  /// - Returns: where the answer will be.
  @discardableResult
  public mutating func send(_ bytes: [UInt8], to queue: Int = EchoDevice.echoQueue, slot: UInt64 = 0) throws
    -> GuestAddress
  {
    let question = heap + slot * 256
    let answer = question + 128
    try memory.write(bytes: bytes, at: GuestAddress(question))
    try rings[queue].send([.readable(question, UInt32(bytes.count)), .writable(answer, UInt32(bytes.count))])
    return GuestAddress(answer)
  }
}
