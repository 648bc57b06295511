import GuestRAM
import LinuxIO
import VirtioCore
import VirtioNet
import Virtqueue

/// A card, and transmit rings that are filled once: what the driver does is a store of an index for each batch.
final class PairsBench {
  private static var ringSize: UInt16 { 256 }
  /// The memory of one ring with its buffer.
  private static var ringStride: UInt64 { 0x10000 }

  private let memory: GuestMemory
  private let ports: [any PacketPort]
  private let loop: EventLoop
  private var host: DeviceHost<NetDevice>

  init(_ ports: [any PacketPort], frameByteCount: Int) throws {
    self.ports = ports
    var options = NetOptions(address: EthernetAddress("52:54:00:12:34:56") ?? .broadcast)
    options.pairCount = ports.count
    memory = try GuestMemory(byteCount: 1 << 20)
    loop = try EventLoop()
    host = DeviceHost(NetDevice(options, ports: ports)) { _ in }
    try host.attach(memory)
    try host.acceptFeatures(ports.count > 1 ? [.version1, .netControlQueue, .netMultiqueue] : [.version1])
    for pair in ports.indices { try fill(pair, frameByteCount) }
    for descriptor in ports.compactMap(\.descriptor) {
      try loop.watch(descriptor, for: [.readable, .writable, .onChange]) { [unowned self] in _ = host.wake() }
    }
  }

  /// A UDP datagram to nobody here. Each pair has a flow of its own: the kernel remembers which queue a flow came from, and
  /// one that came from several would have the processors fight over that.
  private static func frame(byteCount: Int, flow: UInt8) -> [UInt8] {
    let length = byteCount - 14
    let ethernet: [UInt8] = [0x52, 0x54, 0, 1, 2, 3, 0x52, 0x54, 0, 0x12, 0x34, 0x56, 8, 0]
    let ip: [UInt8] = [
      0x45, 0, UInt8(length >> 8), UInt8(length & 0xff), 0, 0, 0, 0, 64, 17, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2,
    ]
    let udp: [UInt8] = [0x10, flow, 0x20, 0, UInt8((length - 20) >> 8), UInt8((length - 20) & 0xff), 0, 0]
    let head = ethernet + ip + udp
    return head + [UInt8](repeating: 0, count: byteCount - head.count)
  }

  /// All descriptors of the ring are the same packet.
  private func fill(_ pair: Int, _ frameByteCount: Int) throws {
    let start = UInt64(pair) * Self.ringStride
    let buffer = start + 0x4000
    let frame = Self.frame(byteCount: frameByteCount, flow: UInt8(pair))
    try memory.write(bytes: [UInt8](repeating: 0, count: 12) + frame, at: GuestAddress(buffer))
    for entry in 0..<UInt64(Self.ringSize) {
      try memory.write(buffer, at: GuestAddress(start + 16 * entry))
      try memory.write(UInt64(12 + frame.count), at: GuestAddress(start + 16 * entry + 8))
      try memory.write(UInt16(entry), at: GuestAddress(start + 0x2004 + 2 * entry))
    }
    try host.startQueue(
      2 * pair + 1,
      QueueConfiguration(
        size: Self.ringSize, descriptorTable: GuestAddress(start), availableRing: GuestAddress(start + 0x2000),
        usedRing: GuestAddress(start + 0x3000)))
  }

  var sentCount: UInt64 { ports.reduce(0) { $0 + $1.counters.sent } }

  /// Keeps the rings full.
  func run(until end: UInt64) throws {
    while MonotonicClock.now < end {
      var isIdle = true
      for pair in ports.indices {
        let start = UInt64(pair) * Self.ringStride
        let used = try memory.acquire(at: GuestAddress(start + 0x3002))
        let available = try memory.acquire(at: GuestAddress(start + 0x2002))
        guard available != used &+ Self.ringSize else { continue }
        isIdle = false
        try memory.publish(used &+ Self.ringSize, at: GuestAddress(start + 0x2002))
        host.kick(2 * pair + 1)
      }
      try loop.runOnce(within: isIdle ? .seconds(1) : .zero)
    }
  }
}
