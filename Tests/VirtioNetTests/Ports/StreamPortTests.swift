import Glibc
import LinuxIO
import Support
import Testing

@testable import VirtioNet

@Suite("Stream port") struct StreamPortTests {
  /// A port, and the other end of its connection.
  private final class Bench {
    let port: StreamPort
    let peer: Socket

    init() throws {
      let pair = try Socket.pair(.stream)
      port = try StreamPort(descriptor: try pair.first.descriptor.duplicate())
      peer = Socket(owning: try pair.second.descriptor.duplicate())
    }

    /// Everything that the port has sent, up to a limit.
    func received(upTo byteCount: Int = 1 << 20) throws -> [UInt8] {
      var bytes = [UInt8](repeating: 0, count: byteCount)
      guard let count = try peer.receive(into: &bytes, at: 0..<byteCount) else { return [] }
      return Array(bytes[..<count])
    }

    func write(_ bytes: [UInt8]) throws {
      let count = try peer.send(bytes, at: 0..<bytes.count)
      #expect(count == bytes.count)
    }
  }

  /// As QEMU writes it: the length, high byte first, and the frame.
  private func onWire(_ frame: [UInt8]) -> [UInt8] {
    [24, 16, 8, 0].map { UInt8(truncatingIfNeeded: frame.count >> $0) } + frame
  }

  @Test("a frame is on the wire behind its length, and the packet's header is not")
  func wire() throws {
    let bench = try Bench()
    #expect(send([frame(1), frame(2, byteCount: 1514)], to: bench.port).isEmpty)
    let bytes = try bench.received()
    #expect(bytes == onWire(frame(1)) + onWire(frame(2, byteCount: 1514)))
    #expect(bench.port.counters.sent == 2)
  }

  @Test("frames come out whole, however the stream is cut")
  func reassembly() throws {
    let bench = try Bench()
    var random = SeededGenerator(for: "StreamPortTests.reassembly")
    let frames = (0..<200).map { number in
      let largest = number % 50 == 0 ? PacketBatch.largestFrameByteCount : 1514
      return frame(number, byteCount: Int.random(in: 14...largest, using: &random))
    }
    let stream = frames.flatMap(onWire)
    var received: [[UInt8]] = []
    var sent = 0
    while sent < stream.count {
      let piece = Array(stream[sent..<min(stream.count, sent + Int.random(in: 1...40_000, using: &random))])
      try bench.write(piece)
      sent += piece.count
      received += receive(from: bench.port)
    }
    #expect(received == frames)
    #expect(bench.port.counters.received == 200)
  }

  @Test("a length beyond any frame's ends the connection with its name")
  func illegalLength() throws {
    let bench = try Bench()
    try bench.write(onWire(frame(1)) + [0x00, 0x01, 0x00, 0x16] + frame(2))
    #expect(receive(from: bench.port) == [frame(1)])
    #expect(bench.port.failure == .illegalLength(bench.port.name, byteCount: 65558))
    #expect(send([frame(3)], to: bench.port).isEmpty)
    #expect(bench.port.counters.drops == [.portFailed: 1])
    #expect(receive(from: bench.port).isEmpty)
  }

  @Test("what is too short for a frame is dropped, and many of them do not keep the thread nor hide what follows")
  func shortFrames() throws {
    let bench = try Bench()
    let flood = [UInt8](repeating: 0, count: 4 * 5000) + onWire(frame(1))
    try bench.write(flood)
    var batch = PacketBatch()
    bench.port.receive(into: &batch)
    #expect(framesOf(batch).isEmpty)
    #expect(bench.port.counters.drops[.tooShort, default: 0] < 5000)
    let frames = try serve(bench.port) { !$0.isEmpty }
    #expect(frames == [frame(1)])
    #expect(bench.port.counters.drops == [.tooShort: 5000])
  }

  @Test("a peer that does not read is told nothing twice and loses nothing; the port says when it has room")
  func backPressure() throws {
    let bench = try Bench()
    let loop = try EventLoop()
    var changes = 0
    try loop.watch(#require(bench.port.descriptor), for: [.readable, .writable, .onChange]) { changes += 1 }
    try loop.runOnce(within: .zero)
    changes = 0

    let frames = (0..<64).map { frame($0, byteCount: 9014) }
    let left = send(frames, to: bench.port)
    #expect(!left.isEmpty && left == frames.suffix(left.count))
    try loop.runOnce(within: .zero)
    #expect(changes == 0)
    var stream = try bench.received()
    try loop.runOnce(within: patience)
    #expect(changes > 0)
    // The rest of a frame goes out although nothing more is sent.
    #expect(receive(from: bench.port).isEmpty)
    stream += try bench.received()
    #expect(stream == frames.prefix(64 - left.count).flatMap { onWire($0) })
    #expect(bench.port.counters.sent == UInt64(64 - left.count))
    #expect(bench.port.counters.drops.isEmpty)
  }

  @Test("a given connection that ends is a failure, and no signal")
  func end() throws {
    let pair = try Socket.pair(.stream)
    let port = try StreamPort(descriptor: try pair.first.descriptor.duplicate())
    shutdown(pair.second.descriptor.rawValue, Int32(SHUT_RDWR))
    #expect(send([frame(1)], to: port).isEmpty)
    #expect(port.failure == .disconnected(port.name))
    #expect(port.counters.drops == [.portFailed: 1])
  }

  @Test("a client finds its server when it comes, and again when it has come back")
  func reconnection() throws {
    let directory = try PortDirectory()
    let address = try SocketAddress.unix(path: directory.path + "/s")
    let client = try StreamPort(connectingTo: [address])
    #expect(!client.isConnected)
    #expect(
      client.trouble == .system(client.name, LinuxError(call: "connect", subject: address.description, number: ENOENT)))
    send([frame(0)], to: client)
    #expect(client.counters.drops == [.noReceiver: 1])
    for number in 1...2 {
      let server = try StreamPort(listeningOn: address)
      _ = try serve(client) { _ in client.isConnected }
      #expect(client.trouble == nil)
      send([frame(number)], to: client)
      #expect(try serve(server) { !$0.isEmpty } == [frame(number)])
      send([frame(number + 10)], to: server)
      #expect(try serve(client) { !$0.isEmpty } == [frame(number + 10)])
    }
    _ = try serve(client) { _ in !client.isConnected }
    #expect(client.failure == nil)
    #expect(client.counters.sent == 2)
  }

  @Test("a server has one peer at a time, and the next one when that has gone")
  func onePeer() throws {
    let directory = try PortDirectory()
    let address = try SocketAddress.unix(path: directory.path + "/s")
    let server = try StreamPort(listeningOn: address)
    #expect(portFailure { () throws(PortError) in _ = try StreamPort(listeningOn: address) } != nil)
    var first: StreamPort? = try StreamPort(connectingTo: [address])
    let second = try StreamPort(connectingTo: [address])
    send([frame(1)], to: try #require(first))
    send([frame(2)], to: second)
    #expect(try serve(server) { !$0.isEmpty } == [frame(1)])
    first = nil
    #expect(try serve(server) { !$0.isEmpty } == [frame(2)])
    #expect(server.counters.received == 2)
    #expect(server.failure == nil)
  }

  @Test("frames go over TCP, whichever of a name's addresses answers")
  func overTCP() throws {
    let any = try #require(try SocketAddress.internet(host: "127.0.0.1", port: 0).first)
    let server = try StreamPort(listeningOn: any)
    let address = try #require(server.listeningAddress)
    // Port 1 is nobody's on any machine that builds this.
    let nobody = try SocketAddress.internet(host: "127.0.0.1", port: 1)
    let client = try StreamPort(connectingTo: nobody + [address])
    _ = try serve(client) { _ in client.isConnected }
    send([frame(1), frame(2)], to: client)
    #expect(try serve(server) { $0.count == 2 } == [frame(1), frame(2)])
    send([frame(3)], to: server)
    #expect(try serve(client) { !$0.isEmpty } == [frame(3)])
  }
}
