import GuestRAM
import VirtioCore
import VirtioNet
import Virtqueue

/// A card behind a host, and a driver whose descriptors never change: it makes the same buffers available again and again.
final class CardBench {
  static let batch: UInt16 = 64
  static let ringSize: UInt16 = 256
  /// A header and the shortest frame there is, without its checksum.
  static let packetByteCount = 12 + 60

  private let memory: GuestMemory
  private var host: DeviceHost<NetDevice>
  private var indices: [UInt16] = [0, 0]

  init(_ port: some PacketPort) throws {
    memory = try GuestMemory(byteCount: 4 << 20)
    var options = NetOptions(address: EthernetAddress([2, 0, 0, 0, 0, 1], at: 0))
    options.controlQueue = false
    host = DeviceHost(NetDevice(options, ports: [port])) { _ in }
    try host.attach(memory)
    try host.acceptFeatures([.version1])
    for queue in 0...1 { try start(queue) }
  }

  /// Sends a batch of packets.
  func transmit() throws { try offer(1) }

  /// Makes buffers for a batch of packets available.
  func receive() throws { try offer(0) }

  /// Has the card look at its port.
  func wake() { host.wake() }

  func counters() throws -> NetCounters {
    if let failure = host.failure { throw failure }
    return host.update { $0.counters }
  }

  private func offer(_ queue: Int) throws {
    indices[queue] &+= Self.batch
    try memory.publish(indices[queue], at: Self.place(queue, 0x4000).offset(2))
    host.kick(queue)
  }

  private func start(_ queue: Int) throws {
    let configuration = QueueConfiguration(
      size: Self.ringSize, descriptorTable: Self.place(queue, 0), availableRing: Self.place(queue, 0x4000),
      usedRing: Self.place(queue, 0x8000))
    for entry in 0..<Self.ringSize {
      let row = configuration.descriptorTable.offset(16 * UInt64(entry))
      try memory.write(Self.place(queue, 0x10000 + 0x1000 * UInt64(entry) + 116).rawValue, at: row)
      let writable: UInt64 = queue == 0 ? 2 << 32 : 0
      try memory.write(UInt64(queue == 0 ? 2048 : Self.packetByteCount) | writable, at: row.offset(8))
      try memory.write(entry, at: configuration.availableRing.offset(4 + 2 * UInt64(entry)))
    }
    try host.startQueue(queue, configuration)
  }

  private static func place(_ queue: Int, _ offset: UInt64) -> GuestAddress {
    GuestAddress(UInt64(queue) * 0x20_0000 + offset)
  }
}

extension GuestAddress {
  fileprivate func offset(_ byteCount: UInt64) -> GuestAddress { GuestAddress(rawValue + byteCount) }
}
