import Foundation
import LinuxIO
import Support
import Testing

@testable import VirtioNet

@Suite("TAP port and packet socket port", .enabled(if: NetworkNamespace.isAvailable, "\(NetworkNamespace.requirement)"))
struct TapPortTests {
  /// The test's own frames: the kernel sends some by itself.
  private func own(_ frames: [[UInt8]]) -> [[UInt8]] {
    frames.filter { $0.count >= 14 && ($0[12] == 0x88 || $0[12] == 0x81) }
  }

  @Test("frames go from the card to the interface and from the interface to the card")
  func bothWays() throws {
    try NetworkNamespace.run {
      let tap = try #require(try TapPort.open(name: "vk%d").first)
      #expect(tap.name == "tap:vk0")
      let wire = try PacketSocketPort(interface: "vk0")
      let frames = (1...100).map { frame($0, byteCount: 60 + $0) }
      #expect(send(Array(frames[..<64]), to: tap).isEmpty)
      #expect(send(Array(frames[64...]), to: tap).isEmpty)
      #expect(own(receive(from: wire)) == frames)
      #expect(send(Array(frames[..<64]), to: wire).isEmpty)
      #expect(own(receive(from: tap)) == Array(frames[..<64]))
      #expect(receive(from: wire).isEmpty)
      #expect(tap.counters.sent == 100 && wire.counters.sent == 64)
      #expect(tap.counters.drops.isEmpty && wire.counters.drops.isEmpty)
    }
  }

  @Test("the descriptors tell of frames")
  func readiness() throws {
    try NetworkNamespace.run {
      let tap = try #require(try TapPort.open(name: "vk0").first)
      let wire = try PacketSocketPort(interface: "vk0")
      send([frame(1)], to: wire)
      #expect(own(try serve(tap) { !own($0).isEmpty }) == [frame(1)])
      send([frame(2)], to: tap)
      #expect(own(try serve(wire) { !own($0).isEmpty }) == [frame(2)])
    }
  }

  /// TCP over IPv4 with three segments of a thousand bytes and an unfinished checksum.
  private var largePacket: (frame: [UInt8], header: NetHeader) {
    var frame = Array(frame(0, byteCount: 54 + 3000))
    frame.replaceSubrange(12..<14, with: [0x08, 0x00])
    frame.replaceSubrange(
      14..<34, with: [0x45, 0, 0x0b, 0xe0, 0, 1, 0x40, 0, 64, 6, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2])
    frame.replaceSubrange(
      34..<54, with: [0x12, 0x34, 0, 80, 0, 0, 0, 1, 0, 0, 0, 1, 0x50, 0x10, 0xff, 0xff, 0, 0, 0, 0])
    var header = NetHeader()
    header.flags = .needsChecksum
    header.segmentation = .tcp4
    header.headersByteCount = 54
    header.segmentByteCount = 1000
    header.checksumStart = 34
    header.checksumOffset = 16
    return (frame, header)
  }

  @Test("5.1.6: what is left undone in a frame stays so from one port to the other, where it may")
  func offloads() throws {
    try NetworkNamespace.run {
      let tap = try #require(try TapPort.open(name: "vk0").first)
      #expect(tap.takenOffloads.isSuperset(of: [.checksum, .tcp4, .tcp6, .congestion, .udpFragments]))
      let wire = try PacketSocketPort(interface: "vk0")
      let (frame, header) = largePacket
      for offloads in [Offloads.all, [.checksum, .tcp4]] {
        tap.setGivenOffloads(offloads)
        wire.setGivenOffloads(offloads)
        var batch = PacketBatch()
        batch.append(frame[...], header)
        tap.send(&batch)
        #expect(framesOf(batch).isEmpty)
        wire.receive(into: &batch)
        #expect(framesOf(batch) == [frame])
        let got = try #require(headersOf(batch).first)
        #expect(got?.segmentation == .tcp4 && got?.flags == .needsChecksum)
        #expect(got?.segmentByteCount == 1000 && got?.checksumStart == 34)
      }
    }
  }

  @Test("5.1.6: what may not be left undone is done, in the order in which frames came, however small the batches")
  func fallback() throws {
    try NetworkNamespace.run {
      let tap = try #require(try TapPort.open(name: "vk0").first)
      let wire = try PacketSocketPort(interface: "vk0")
      let (large, header) = largePacket
      var batch = PacketBatch()
      for number in 0..<30 {
        batch.append(large[...], header)
        batch.append(frame(number)[...])
      }
      while true {
        tap.send(&batch)
        if framesOf(batch).isEmpty { break }
      }
      var received: [[UInt8]] = []
      repeat {
        batch.removeAll()
        wire.receive(into: &batch)
        received += framesOf(batch)
        #expect(headersOf(batch).allSatisfy { $0?.isPlain == true })
      } while !framesOf(batch).isEmpty
      #expect(received.map(\.count) == (0..<30).flatMap { _ in [1054, 1054, 1054, 64] })
      #expect(own(received) == (0..<30).map { frame($0) })
      #expect(wire.counters.received == 120 && wire.counters.drops.isEmpty)
    }
  }

  @Test("5.1.6: the kernel cuts for a card that wants nothing undone")
  func cutting() throws {
    try NetworkNamespace.run {
      let tap = try #require(try TapPort.open(name: "vk0").first)
      let wire = try PacketSocketPort(interface: "vk0")
      let (frame, header) = largePacket
      for (offloads, byteCounts) in [(Offloads.all, [3054]), ([], [1054, 1054, 1054])] {
        tap.setGivenOffloads(offloads)
        var batch = PacketBatch()
        batch.append(frame[...], header)
        wire.send(&batch)
        #expect(framesOf(batch).isEmpty)
        let got = receive(from: tap).filter { $0.starts(with: frame[..<16]) || $0.count >= 1000 }
        #expect(got.map(\.count) == byteCounts)
      }
    }
  }

  @Test("a header that says nonsense is dropped, and the port goes on")
  func badHeader() throws {
    try NetworkNamespace.run {
      let tap = try #require(try TapPort.open(name: "vk0").first)
      let wire = try PacketSocketPort(interface: "vk0")
      var (large, header) = largePacket
      header.segmentByteCount = 0
      large.removeLast(1)
      for port in [tap as any PacketPort, wire] {
        var batch = PacketBatch()
        batch.append(large[...], header)
        batch.append(frame(1)[...])
        port.send(&batch)
        #expect(framesOf(batch).isEmpty)
        #expect(port.counters.drops == [.badHeader: 1] && port.counters.sent == 1)
        #expect(port.failure == nil)
      }
      send([frame(2, byteCount: 4000)], to: wire)
      #expect(wire.counters.drops[.tooLong] == 1)
    }
  }

  @Test("a tag of a virtual network is in the frame again, and offsets mean what they meant")
  func vlanTag() throws {
    try NetworkNamespace.run {
      let tap = try #require(try TapPort.open(name: "vk0").first)
      let wire = try PacketSocketPort(interface: "vk0")
      wire.setGivenOffloads(.all)
      let tagged = frame(1)[..<12] + [0x81, 0x00, 0x20, 0x07] + frame(1)[12...]
      send([Array(tagged)], to: tap)
      #expect(receive(from: wire) == [Array(tagged)])

      var (large, header) = largePacket
      large.insert(contentsOf: [0x81, 0x00, 0x20, 0x07], at: 12)
      header.headersByteCount += 4
      header.checksumStart += 4
      var batch = PacketBatch()
      batch.append(large[...], header)
      tap.send(&batch)
      wire.receive(into: &batch)
      #expect(framesOf(batch) == [large])
      #expect(headersOf(batch).first??.checksumStart == 38)
      // And back, with the tag in the frame.
      wire.send(&batch)
      #expect(wire.counters.drops.isEmpty)
    }
  }

  @Test("an interface may have many queues, and one of them may be opened alone")
  func manyQueues() throws {
    try NetworkNamespace.run {
      let queues = try TapPort.open(name: "vk%d", queueCount: 3)
      #expect(queues.map(\.name) == ["tap:vk0", "tap:vk0", "tap:vk0"])
      #expect(Set(queues.map(\.descriptor)).count == 3)
      #expect(try TapPort.open(name: "vk0").count == 1)
      let wire = try PacketSocketPort(interface: "vk0")
      for (number, queue) in queues.enumerated() { send([frame(number)], to: queue) }
      #expect(own(receive(from: wire)) == [frame(0), frame(1), frame(2)])
    }
  }

  @Test("an inherited descriptor is taken for what it is")
  func inherited() throws {
    try NetworkNamespace.run {
      let device = try TapDevice.open(name: "vk0")
      let port = try TapPort(descriptor: try device.descriptor.duplicate())
      #expect(port.name == "tap:vk0")
      // A file that is no network device, and a device without what a frame needs.
      let refused = portFailure { () throws(PortError) in _ = try TapPort(descriptor: duplicateOfStandardError()) }
      guard case .noTapWithHeaders = refused else { throw try #require(refused) }
    }
  }

  private func duplicateOfStandardError() -> FileDescriptor {
    FileDescriptor(owning: dup(2))
  }

  @Test("an interface that is down drops, and carries again when it is up")
  func downAndUp() throws {
    try NetworkNamespace.run {
      let tap = try #require(try TapPort.open(name: "vk0").first)
      let wire = try PacketSocketPort(interface: "vk0")
      let interface = try NetworkInterface(named: "vk0")
      try interface.setUp(false)
      for port in [tap as any PacketPort, wire] {
        #expect(receive(from: port).isEmpty)
        send([frame(1)], to: port)
        #expect(port.counters.drops == [.linkDown: 1])
      }
      try interface.setUp()
      send([frame(2)], to: tap)
      #expect(own(receive(from: wire)) == [frame(2)])
      #expect(tap.failure == nil && wire.failure == nil)
    }
  }

  @Test("an interface that has gone is a failure, and costs no more calls")
  func gone() throws {
    guard FileManager.default.isExecutableFile(atPath: "/usr/sbin/ip") else { return }
    try NetworkNamespace.run {
      let tap = try #require(try TapPort.open(name: "vk0").first)
      let wire = try PacketSocketPort(interface: "vk0")
      let deletion = try ChildProcess.run("/usr/sbin/ip", ["link", "delete", "vk0"])
      try #require(deletion.end == .exit(0))
      #expect(receive(from: tap).isEmpty)
      #expect(tap.failure == .system("tap:vk0", LinuxError(call: "read", number: EBADFD)))
      send([frame(1), frame(2)], to: tap)
      #expect(tap.counters.drops == [.portFailed: 2])
      #expect(receive(from: wire).isEmpty)
      send([frame(1), frame(2)], to: wire)
      #expect(wire.counters.drops == [.portFailed: 2])
      #expect(wire.failure != nil)
    }
  }

  @Test("names that no interface can have are refused")
  func names() throws {
    for name in ["", "a name", "a/b", "sixteen-letters!", ".", "..", "a:b"] {
      let refused = portFailure { () throws(PortError) in _ = try TapPort.open(name: name) }
      #expect(refused == .illegalName(name))
    }
    try NetworkNamespace.run {
      let first = try TapPort.open(name: "vk0")
      let busy = portFailure { () throws(PortError) in _ = try TapPort.open(name: "vk0") }
      #expect(busy == .taken("tap:vk0"))
      let more = portFailure { () throws(PortError) in _ = try TapPort.open(name: "vk0", queueCount: 2) }
      #expect(more == .oneQueue(device: "vk0"))
      #expect(first.count == 1)
      let other = portFailure { () throws(PortError) in _ = try TapPort.open(name: "lo") }
      #expect(other == .notTap(device: "lo"))
      let none = portFailure { () throws(PortError) in _ = try PacketSocketPort(interface: "vk9") }
      #expect(none == .noInterface("vk9"))
    }
  }
}
