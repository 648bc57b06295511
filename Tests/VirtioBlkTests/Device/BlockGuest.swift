import DeviceState
import GuestRAM
import Support
import VirtioBlk
import VirtioCore

/// The feature bits, written down from 5.2.3 and not taken from the device.
enum Bit {
  static let readOnly: UInt64 = 1 << 5
  static let flush: UInt64 = 1 << 9
  static let configurableWriteback: UInt64 = 1 << 11
  static let multiqueue: UInt64 = 1 << 12
  static let discard: UInt64 = 1 << 13
  static let writeZeroes: UInt64 = 1 << 14
  static let eventIndex: UInt64 = 1 << 29
  static let version1: UInt64 = 1 << 32
  /// All of the device's own.
  static let all: UInt64 = 0xFF_FFFF
}

/// The request types of 5.2.6.
enum Type {
  static let read: UInt32 = 0
  static let write: UInt32 = 1
  static let flush: UInt32 = 4
  static let identify: UInt32 = 8
  static let lifetime: UInt32 = 10
  static let discard: UInt32 = 11
  static let writeZeroes: UInt32 = 13
  static let secureErase: UInt32 = 14
  static let zoned: [UInt32] = [15, 16, 18, 20, 22, 24, 26]
}

/// The status bytes of 5.2.6.
enum Status {
  static let done: UInt8 = 0
  static let failed: UInt8 = 1
  static let unsupported: UInt8 = 2
}

/// What a driver finds when its request comes back.
struct Answer: Equatable {
  /// The last device-writable byte.
  var status: UInt8
  /// The device-writable bytes before it.
  var data: [UInt8] = []
  /// What the used ring says was written.
  var usedByteCount: UInt32
}

/// A driver of the block device, with its rings in real guest memory and the device at the other end.
final class BlockGuest {
  /// Where a request's buffers lie, so that the answer can be read.
  struct Request {
    let head: UInt16?
    var writable: [RingFixture.Buffer]
  }

  /// What device-writable memory holds before the device writes.
  static let untouched: UInt8 = 0xEE

  var bench: DeviceBench<BlockDevice>
  private let device: (any BlockStore, BlockOptions)
  /// Why requests failed, as the device told it.
  let reports: Reports

  final class Reports {
    var all: [StoreError] = []
  }

  /// A guest whose driver took every step up to DRIVER_OK.
  init(
    _ store: any BlockStore, _ options: BlockOptions = BlockOptions(), accepting: UInt64 = Bit.all,
    workers: BlockWorkers? = nil, ringSize: UInt16 = 64
  ) throws {
    let reports = Reports()
    self.reports = reports
    device = (store, options)
    bench = try DeviceBench(
      BlockDevice(store, options, workers: workers) { reports.all.append($0) }, ringSize: ringSize)
    try start(accepting: accepting)
  }

  func start(accepting: UInt64 = Bit.all) throws {
    let offered = bench.host.offeredFeatures
    try bench.start(Features(low: offered.low & accepting | Bit.version1))
    for queue in bench.rings.indices { bench.host.kick(queue) }
    bench.notifications.all = []
  }

  /// Makes bytes for the device to read, and room for it to write, available on a queue. Nobody is kicked.
  ///
  /// - Parameters:
  ///   - readable: the lengths of the readable buffers; one buffer when nil.
  ///   - writable: likewise.
  ///   - slot: requests with different ones are out at the same time: 2048 bytes each.
  func offer(
    _ bytes: [UInt8], room: Int, readable: [Int]? = nil, writable: [Int]? = nil, slot: UInt64 = 0, queue: Int = 0,
    shape: RingFixture.Shape = .direct
  ) throws -> Request {
    var place = bench.heap + slot * 2048
    var buffers: [RingFixture.Buffer] = []
    var rest = bytes[...]
    for length in readable ?? (bytes.isEmpty ? [] : [bytes.count]) {
      try bench.memory.write(bytes: Array(rest.prefix(length)), at: GuestAddress(place))
      rest = rest.dropFirst(length)
      buffers.append(.readable(place, UInt32(length)))
      place += UInt64(length) + 3
    }
    let writableStart = buffers.count
    for length in writable ?? (room == 0 ? [] : [room]) {
      try bench.memory.write(bytes: [UInt8](repeating: Self.untouched, count: length + 3), at: GuestAddress(place))
      buffers.append(.writable(place, UInt32(length)))
      place += UInt64(length) + 3
    }
    let head = try bench.rings[queue].send(buffers, shape: shape)
    return Request(head: head, writable: Array(buffers[writableStart...]))
  }

  /// Reads what the device left in a request's writable buffers.
  func written(_ request: Request) throws -> [UInt8] {
    try request.writable.flatMap { try bench.memory.readBytes(Int($0.byteCount), at: $0.address) }
  }

  /// The header of 5.2.6.
  static func header(_ type: UInt32, sector: UInt64 = 0, reserved: UInt32 = 0) -> [UInt8] {
    bytes(type) + bytes(reserved) + bytes(sector)
  }

  /// A segment of a discard or a write of zeros.
  static func segment(_ sector: UInt64, _ count: UInt32, flags: UInt32 = 0) -> [UInt8] {
    bytes(sector) + bytes(count) + bytes(flags)
  }

  static func bytes<T: FixedWidthInteger>(_ value: T) -> [UInt8] {
    (0..<T.bitWidth / 8).map { UInt8(truncatingIfNeeded: value >> (8 * $0)) }
  }

  /// Offers a request with a status byte; nobody is kicked.
  func offer(
    _ type: UInt32, sector: UInt64 = 0, _ data: [UInt8] = [], room: Int = 0, slot: UInt64 = 0, queue: Int = 0
  ) throws -> Request {
    try offer(Self.header(type, sector: sector) + data, room: room + 1, slot: slot, queue: queue)
  }

  /// Asks a request and takes its answer; nil while the device has it.
  func ask(
    _ type: UInt32, sector: UInt64 = 0, _ data: [UInt8] = [], room: Int = 0, queue: Int = 0
  ) throws -> Answer? {
    let request = try offer(type, sector: sector, data, room: room, queue: queue)
    bench.host.kick(queue)
    return try take(request, queue: queue)
  }

  /// Takes the answer of a request, which is the next to come back.
  func take(_ request: Request, queue: Int = 0) throws -> Answer? {
    guard let used = try bench.rings[queue].takeUsed() else { return nil }
    guard let head = request.head, used.id == UInt32(head) else { return nil }
    let bytes = try written(request)
    guard let status = bytes.last else { return nil }
    return Answer(status: status, data: Array(bytes.dropLast()), usedByteCount: used.byteCount)
  }

  /// Only the status of a request.
  func status(_ type: UInt32, sector: UInt64 = 0, _ data: [UInt8] = [], room: Int = 0) throws -> UInt8? {
    try ask(type, sector: sector, data, room: room)?.status
  }

  /// Moves driver and device to another store and other options, with a copy of memory.
  func moved(to store: any BlockStore) throws -> BlockGuest {
    bench.host.pause()
    var snapshot = try bench.save()
    let other = try BlockGuest(store, device.1)
    let reports = other.reports
    other.bench = try bench.moved(to: BlockDevice(store, device.1) { reports.all.append($0) })
    try other.bench.host.attach(other.bench.memory)
    try other.bench.host.restore(from: &snapshot)
    other.bench.host.resume()
    return other
  }
}
