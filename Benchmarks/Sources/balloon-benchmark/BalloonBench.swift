import Balloon
import GuestRAM
import VirtioCore
import Virtqueue

/// A balloon on a ring of its own, with requests that lie ready in memory.
final class BalloonBench<Reclaimer: PageReclaimer> {
  static var ringSize: UInt64 { 64 }

  let memory: GuestMemory
  private var host: DeviceHost<BalloonDevice<Reclaimer>>
  private let requests: [[UInt32]]
  private var index: UInt16 = 0

  private let table = GuestAddress(0x1000)
  private let available = GuestAddress(0x1400)
  private let used = GuestAddress(0x1800)

  init(_ requests: [[UInt32]], _ reclaimer: Reclaimer) throws {
    self.requests = requests
    memory = try GuestMemory(byteCount: 512 << 20)
    host = DeviceHost(BalloonDevice(reclaimer: reclaimer)) { _ in }
    try host.attach(memory)
    try host.acceptFeatures([.version1, .mustTellHost])
    try host.startQueue(
      0,
      QueueConfiguration(
        size: UInt16(Self.ringSize), descriptorTable: table, availableRing: available, usedRing: used))
    for (number, frames) in requests.enumerated() {
      for (place, frame) in frames.enumerated() {
        try memory.write(frame, at: GuestAddress(array(number).rawValue + UInt64(4 * place)))
      }
    }
  }

  /// Puts host memory behind every page that is to be inflated.
  func touch() throws {
    for frame in requests.joined() { try memory.write(UInt64(1), at: GuestAddress(UInt64(frame) * 4096)) }
  }

  /// Sends every request, and kicks after each, as a driver that waits for each answer does.
  func inflate() throws {
    for number in requests.indices {
      let slot = UInt64(index) % Self.ringSize
      let descriptor = table.rawValue + 16 * slot
      try memory.write(array(number).rawValue, at: GuestAddress(descriptor))
      try memory.write(UInt64(4 * requests[number].count), at: GuestAddress(descriptor + 8))
      try memory.write(UInt16(slot), at: GuestAddress(available.rawValue + 4 + 2 * slot))
      index &+= 1
      try memory.publish(index, at: GuestAddress(available.rawValue + 2))
      host.kick(0)
    }
    if let failure = host.failure { throw failure }
  }

  private func array(_ number: Int) -> GuestAddress {
    GuestAddress(0x10_0000 + UInt64(number) * 1024)
  }
}

/// Takes pages and does nothing with them: what is left is the device.
struct NoReclaimer: PageReclaimer {
  mutating func giveUp(_ range: GuestRange, of memory: GuestMemory) throws(GuestMemoryError) -> UInt64 {
    range.byteCount
  }

  mutating func release(_ range: GuestRange, of memory: GuestMemory) throws(GuestMemoryError) -> UInt64 {
    range.byteCount
  }

  mutating func takeBack(_ range: GuestRange, of memory: GuestMemory) {}
  mutating func reset() {}
}
