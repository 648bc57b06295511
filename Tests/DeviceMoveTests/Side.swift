import Balloon
import DeviceState
import GuestRAM
import LinuxIO
import SimulatedGuest
import VirtioBlk
import VirtioCore
import VirtioNet

/// One side's devices of a guest: a balloon, a disk and a card, each on a thread of its own.
final class Side: Sendable {
  let balloon: DeviceThread<BalloonDevice<MemoryReclaimer>>
  let block: DeviceThread<BlockDevice>
  let net: DeviceThread<NetDevice>
  let group: DeviceGroup
  private let latches: (balloon: InterruptLatch, block: InterruptLatch, net: InterruptLatch)

  /// - Parameters:
  ///   - name: of the card's place in the network.
  ///   - makeStore: opens the disk.
  init(
    _ name: String, on network: LearningSwitch, _ makeStore: @escaping @Sendable () throws(StoreError) -> any BlockStore
  ) throws {
    let latches = (balloon: InterruptLatch(), block: InterruptLatch(), net: InterruptLatch())
    let balloon = try DeviceThread(name: "balloon") { (_) in
      DeviceHost(BalloonDevice(BalloonOptions(), reclaimer: MemoryReclaimer())) { latches.balloon.insert($0) }
    }
    let store = try makeStore()
    let block = try DeviceThread(name: "block") { (_, wake) throws(LinuxError) in
      let workers = try BlockWorkers(store, most: 4, onCompletion: wake)
      return DeviceHost(BlockDevice(store, workers: workers)) { latches.block.insert($0) }
    }
    let net = try DeviceThread(name: "net") { (loop, wake) throws(LinuxError) in
      let port = try Self.port(name, of: network)
      if let descriptor = port.descriptor {
        try loop.watch(descriptor, for: [.readable, .writable, .onChange]) { wake() }
      }
      var options = NetOptions(address: EthernetAddress([2, 0, 0, 0, 0, 1], at: 0))
      options.queueSize = 128
      return DeviceHost(NetDevice(options, ports: [port])) { latches.net.insert($0) }
    }
    (self.balloon, self.block, self.net, self.latches) = (balloon, block, net, latches)
    group = DeviceGroup([("", balloon), ("disk", block), ("card", net)])
  }

  private static func port(_ name: String, of network: LearningSwitch) throws(LinuxError) -> SwitchPort {
    do throws(PortError) {
      return try network.addPort(name)
    } catch {
      throw LinuxError(call: "\(error)", number: 0)
    }
  }

  /// Leads a guest's drivers here.
  var devices: GuestDevices {
    GuestDevices(
      balloon: ThreadTransport(balloon, latches.balloon), block: ThreadTransport(block, latches.block),
      net: ThreadTransport(net, latches.net))
  }

  /// Forgets the guest, which has gone elsewhere.
  /// - Returns: how many packets for it came here too late.
  func leave() throws -> UInt64 {
    let before = try net.call { $0.device.dropCount } ?? 0
    try group.reset()
    let count = try net.call { (host) in host.device.dropCount - before + host.device.takeWaiting() }
    for stop in [balloon.stop, block.stop, net.stop] { stop() }
    return count ?? 0
  }
}

extension NetDevice {
  fileprivate var dropCount: UInt64 { counters.drops.values.reduce(0, +) }

  /// How many packets the port has for the card, which never gets them, and has lost for want of room.
  fileprivate func takeWaiting() -> UInt64 {
    var batch = PacketBatch()
    var count: UInt64 = 0
    for port in ports {
      while true {
        port.receive(into: &batch)
        guard !batch.isEmpty else { break }
        count += UInt64(batch.count)
        batch.removeAll()
      }
      count += port.counters.drops[.queueFull] ?? 0
    }
    return count
  }
}
