import Glibc
import LinuxIO
import Support
import Testing

@testable import VirtioNet

@Suite("Datagram port") struct DatagramPortTests {
  @Test("one frame is one datagram, and many go at once")
  func wire() throws {
    let pair = try Socket.pair(.datagram)
    let port = try DatagramPort(descriptor: try pair.first.descriptor.duplicate())
    #expect(send([frame(1), frame(2, byteCount: 1514)], to: port).isEmpty)
    var bytes = [UInt8](repeating: 0, count: 2000)
    #expect(try pair.second.receive(into: &bytes, at: 0..<2000) == 64)
    #expect(Array(bytes[..<64]) == frame(1))
    #expect(try pair.second.receive(into: &bytes, at: 0..<2000) == 1514)
    _ = try pair.second.send(frame(3), at: 0..<64)
    #expect(receive(from: port) == [frame(3)])
    #expect(port.counters.sent == 2 && port.counters.received == 1)
  }

  @Test("datagrams that are no frames are dropped, and many of them do not hide what follows")
  func noFrames() throws {
    let pair = try Socket.pair(.datagram)
    let port = try DatagramPort(descriptor: try pair.first.descriptor.duplicate())
    let long = [UInt8](repeating: 1, count: PacketBatch.largestFrameByteCount + 1)
    _ = try pair.second.send(long, at: 0..<long.count)
    _ = try pair.second.send(long, at: 0..<13)
    _ = try pair.second.send(long, at: 0..<long.count - 1)
    _ = try pair.second.send(long, at: 0..<14)
    #expect(receive(from: port).map(\.count) == [PacketBatch.largestFrameByteCount, 14])
    #expect(port.counters.drops == [.tooLong: 1, .tooShort: 1])
  }

  @Test("a batch without room leaves datagrams for the next")
  func smallBatch() throws {
    let pair = try Socket.pair(.datagram)
    let port = try DatagramPort(descriptor: try pair.first.descriptor.duplicate())
    let other = try DatagramPort(descriptor: try pair.second.descriptor.duplicate())
    let frames = (0..<8).map { frame($0, byteCount: 60_000) }
    var left = frames
    var received: [[UInt8]] = []
    while !left.isEmpty {
      left = send(left, to: port)
      var batch = PacketBatch()
      other.receive(into: &batch)
      #expect(framesOf(batch).count <= 4)
      received += framesOf(batch)
    }
    received += receive(from: other)
    #expect(received == frames)
    #expect(other.counters.received == 8 && port.counters.sent == 8)
  }

  @Test("a peer that is slow keeps packets where they are, and the port says when it has room")
  func backPressure() throws {
    let pair = try Socket.pair(.datagram)
    let port = try DatagramPort(descriptor: try pair.first.descriptor.duplicate())
    let loop = try EventLoop()
    var changes = 0
    try loop.watch(#require(port.descriptor), for: [.readable, .writable, .onChange]) { changes += 1 }
    var sent = 0
    var left: [[UInt8]] = []
    while left.isEmpty {
      left = send((0..<64).map { frame($0) }, to: port)
      sent += 64 - left.count
    }
    #expect(port.counters.sent == UInt64(sent) && port.counters.drops.isEmpty)
    try loop.runOnce(within: .zero)
    changes = 0
    var bytes = [UInt8](repeating: 0, count: 2000)
    while try pair.second.receive(into: &bytes, at: 0..<2000) != nil {}
    try loop.runOnce(within: patience)
    #expect(changes > 0)
    #expect(send(left, to: port).isEmpty)
  }

  @Test("a unix peer that is not there gets nothing, and is found when it has come, and come back")
  func comingAndGoing() throws {
    let directory = try PortDirectory()
    let here = try SocketAddress.unix(path: directory.path + "/here")
    let there = try SocketAddress.unix(path: directory.path + "/there")
    let port = try DatagramPort(local: here, remote: there)
    send([frame(0)], to: port)
    #expect(port.counters.drops == [.noReceiver: 1])
    for number in 1...2 {
      let peer = try DatagramPort(local: there, remote: here)
      send([frame(number + 10)], to: peer)
      #expect(try serve(port) { !$0.isEmpty } == [frame(number + 10)])
      let deadline = MonotonicClock.moment(after: patience)
      while receive(from: peer).isEmpty {
        try #require(MonotonicClock.now < deadline, "the peer is not found")
        send([frame(number)], to: port)
      }
    }
    send([frame(0), frame(0)], to: port)
    #expect(port.failure == nil)
    #expect(portFailure { () throws(PortError) in _ = try DatagramPort(local: here, remote: there) } != nil)
  }

  @Test("frames go over UDP, and a machine that does not listen is no failure")
  func overUDP() throws {
    let any = try #require(try SocketAddress.internet(host: "127.0.0.1", port: 0).first)
    let addresses = try freeAddresses(like: any)
    let one = try DatagramPort(local: addresses[0], remote: addresses[1])
    send([frame(1)], to: one)
    send([frame(1), frame(1)], to: one)
    #expect(receive(from: one).isEmpty)
    let two = try DatagramPort(local: addresses[1], remote: addresses[0])
    send([frame(2), frame(3)], to: one)
    let frames = try serve(two) { $0.contains(frame(3)) }
    #expect(frames.last == frame(3))
    send([frame(4)], to: two)
    #expect(try serve(one) { !$0.isEmpty } == [frame(4)])
    #expect(one.failure == nil && two.failure == nil)
    let long = frame(0, byteCount: 65530)
    send([long], to: one)
    #expect(one.counters.drops[.tooLong] == 1)
  }

  /// Two addresses that were free a moment ago.
  private func freeAddresses(like any: SocketAddress) throws -> [SocketAddress] {
    var first = try Socket(.datagram, for: any)
    var second = try Socket(.datagram, for: any)
    try first.bind(to: any)
    try second.bind(to: any)
    return [try first.localAddress, try second.localAddress]
  }

  @Test("a pair's other side that has gone is a failure")
  func gone() throws {
    func halfOfPair() throws(LinuxError) -> FileDescriptor { try Socket.pair(.datagram).first.descriptor.duplicate() }
    let port = try DatagramPort(descriptor: try halfOfPair())
    send([frame(1), frame(2), frame(3)], to: port)
    #expect(port.failure == .disconnected(port.name))
    #expect(port.counters.drops == [.noReceiver: 1, .portFailed: 2])
    #expect(receive(from: port).isEmpty)
  }

  @Test("a connection of packets that has ended is a failure, and does not keep the thread")
  func endOfPackets() throws {
    var numbers: [Int32] = [-1, -1]
    let kind = Int32(SOCK_SEQPACKET.rawValue | SOCK_CLOEXEC.rawValue)
    let result = unsafe socketpair(AF_UNIX, kind, 0, &numbers)
    try #require(result == 0)
    let port = try DatagramPort(descriptor: FileDescriptor(owning: numbers[0]))
    let peer = Socket(owning: FileDescriptor(owning: numbers[1]))
    _ = try peer.send(frame(1), at: 0..<64)
    shutdown(numbers[1], Int32(SHUT_RDWR))
    #expect(receive(from: port) == [frame(1)])
    #expect(port.failure == .disconnected(port.name))
    send([frame(2)], to: port)
    #expect(port.counters.drops[.portFailed] == 1)
  }
}
