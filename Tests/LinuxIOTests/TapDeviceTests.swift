import Glibc
import LinuxIO
import Support
import Testing

@Suite("TAP and packet socket", .enabled(if: NetworkNamespace.isAvailable, "\(NetworkNamespace.requirement)"))
struct TapDeviceTests {
  /// A header of twelve zeros and a frame of a protocol that nobody speaks.
  private static let packet =
    [UInt8](repeating: 0, count: 12) + [0x02, 0, 0, 0, 0, 1, 0x02, 0, 0, 0, 0, 2, 0x88, 0xb5] + [UInt8](0..<50)

  @Test("a device is made with a name, found, brought up and gone with its descriptor")
  func life() throws {
    try NetworkNamespace.run {
      do {
        let tap = try TapDevice.open(name: "vk%d")
        #expect(tap.name == "vk0")
        let interface = try NetworkInterface(named: "vk0")
        try interface.setUp()
        #expect(interface.exists)
        let isTaken = tap.setOffloads([.checksum, .tcp4, .tcp6])
        #expect(isTaken)
        // What is to be cut needs its checksum completed.
        let isRefused = !tap.setOffloads([.tcp4])
        #expect(isRefused)
        let busy = failure { () throws(LinuxError) in _ = try TapDevice.open(name: "vk0") }
        #expect(busy == LinuxError(call: "ioctl(TUNSETIFF)", subject: "vk0", number: EBUSY))
      }
      let gone = failure { () throws(LinuxError) in _ = try NetworkInterface(named: "vk0") }
      #expect(gone?.number == ENODEV)
    }
  }

  @Test("a descriptor is taken over when it is such a device's")
  func adoption() throws {
    try NetworkNamespace.run {
      let tap = try TapDevice.open(name: "vk0", hasManyQueues: true)
      let adopted = try unwrap(try TapDevice.adopt(try tap.descriptor.duplicate()))
      #expect(adopted.name == "vk0")
      let none = failure { () throws(LinuxError) in _ = try TapDevice.adopt(try Eventfd().descriptor.duplicate()) }
      #expect(none?.call == "ioctl(TUNGETIFF)")
    }
  }

  @Test("what goes into a device comes out of a packet socket, and the other way")
  func bothWays() throws {
    try NetworkNamespace.run {
      let tap = try TapDevice.open(name: "vk0")
      let interface = try NetworkInterface(named: "vk0")
      try interface.setUp()
      let socket = try PacketSocket.open(on: interface)
      #expect(try tap.descriptor.writeOnce(Self.packet, at: 0..<Self.packet.count) == Self.packet.count)
      var incoming = try IncomingMessages(capacity: 4, byteCount: 2000, hasTags: true)
      #expect(try incoming.receive(on: socket))
      #expect(incoming.count == 1)
      #expect(incoming.byteCount(0) == Self.packet.count - 2)
      #expect(incoming.vlanTag(0) == nil)

      var outgoing = OutgoingMessages(messageCount: 1, partsPerMessage: 2)
      outgoing.append(0..<PacketSocket.headerByteCount)
      outgoing.append(12..<Self.packet.count)
      #expect(try outgoing.send(of: Self.packet, on: socket) == 1)
      var bytes = [UInt8](repeating: 0, count: 2000)
      // The kernel's own first packets may come before it.
      var count = try tap.descriptor.readOnce(into: &bytes, at: 0..<2000)
      while let length = count, Array(bytes[..<length]) != Self.packet {
        count = try tap.descriptor.readOnce(into: &bytes, at: 0..<2000)
      }
      #expect(count == Self.packet.count)
      #expect(try !incoming.receive(on: socket))
    }
  }

  @Test("the kernel's tag of a frame is told")
  func vlanTag() throws {
    try NetworkNamespace.run {
      let tap = try TapDevice.open(name: "vk0")
      let interface = try NetworkInterface(named: "vk0")
      try interface.setUp()
      let socket = try PacketSocket.open(on: interface)
      let tagged = Self.packet[..<24] + [0x81, 0x00, 0x20, 0x07] + Self.packet[24...]
      #expect(try tap.descriptor.writeOnce(Array(tagged), at: 0..<tagged.count) == tagged.count)
      var incoming = try IncomingMessages(capacity: 4, byteCount: 2000, hasTags: true)
      #expect(try incoming.receive(on: socket))
      #expect(incoming.vlanTag(0) == 0x8100_2007)
      #expect(incoming.byteCount(0) == Self.packet.count - 2)
    }
  }

  @Test("reading a device that has nothing, or is gone, does not wait")
  func nothing() throws {
    try NetworkNamespace.run {
      let tap = try TapDevice.open(name: "vk0")
      var bytes = [UInt8](repeating: 0, count: 2000)
      #expect(try tap.descriptor.readOnce(into: &bytes, at: 0..<2000) == nil)
      let down = failure { () throws(LinuxError) in
        _ = try tap.descriptor.writeOnce(Self.packet, at: 0..<Self.packet.count)
      }
      #expect(down?.number == EIO)
    }
  }
}
