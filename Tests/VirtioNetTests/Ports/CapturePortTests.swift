import Foundation
import Glibc
import LinuxIO
import Testing

@testable import VirtioNet

/// Gives its frames once, and takes a few at a time.
private final class FewPort: PacketPort {
  let name = "few"
  let takenOffloads = Offloads.all
  let descriptor: Int32? = nil
  let failure: PortError? = nil
  var counters = PortCounters()
  var given: [[UInt8]] = []

  func setGivenOffloads(_ offloads: Offloads) {}
  func send(_ batch: inout PacketBatch) { batch.removeFirst(2) }
  func receive(into batch: inout PacketBatch) {
    for frame in given { batch.append(frame[...]) }
    given = []
  }
}

@Suite("Capture port") struct CapturePortTests {
  private struct Block: Equatable {
    let kind: UInt32
    let body: [UInt8]

    /// A block's numbers, in the file's byte order.
    func number(_ offset: Int) -> UInt32 { body.number(offset) }
  }

  private func blocks(_ path: String) throws -> [Block] {
    var rest = [UInt8](try Data(contentsOf: URL(fileURLWithPath: path)))[...]
    var blocks: [Block] = []
    while !rest.isEmpty {
      let bytes = Array(rest)
      let length = Int(bytes.number(4))
      try #require(length % 4 == 0 && length >= 12 && length <= bytes.count)
      #expect(Int(bytes.number(length - 4)) == length)
      blocks.append(Block(kind: bytes.number(0), body: Array(bytes[8..<length - 4])))
      rest = rest.dropFirst(length)
    }
    return blocks
  }

  @Test("what was taken and given is in the file, whole, with its direction, in order, and complete at any time")
  func contents() throws {
    let directory = try PortDirectory()
    let path = directory.path + "/c.pcapng"
    let inner = FewPort()
    let port = try CapturePort(inner, to: path)
    let before = WallClock.now
    inner.given = [frame(1, byteCount: 61)]
    #expect(receive(from: port) == [frame(1, byteCount: 61)])
    let sent = [frame(2), frame(3, byteCount: 9014), frame(4)]
    #expect(send(sent, to: port) == [frame(4)])

    let blocks = try blocks(path)
    try #require(blocks.count == 5)
    #expect(blocks[0].kind == 0x0a0d_0d0a && blocks[0].number(0) == 0x1a2b_3c4d)
    #expect(blocks[0].number(4) == 1)
    #expect(blocks[1].kind == 1 && blocks[1].number(0) == 1 && blocks[1].number(4) == 0)
    #expect(Array(blocks[1].body[8...]) == [2, 0, 3, 0] + Array("few\0".utf8) + [9, 0, 1, 0, 9, 0, 0, 0, 0, 0, 0, 0])
    for (block, expected) in zip(blocks[2...], [(frame(1, byteCount: 61), 1), (sent[0], 2), (sent[1], 2)]) {
      let (frame, direction) = expected
      #expect(block.kind == 6 && block.number(0) == 0)
      let time = UInt64(block.number(4)) << 32 | UInt64(block.number(8))
      #expect((before...WallClock.now).contains(time))
      #expect(block.number(12) == UInt32(frame.count) && block.number(16) == UInt32(frame.count))
      #expect(Array(block.body[20..<20 + frame.count]) == frame)
      #expect(Array(block.body.suffix(12)) == [2, 0, 4, 0, UInt8(direction), 0, 0, 0, 0, 0, 0, 0])
    }
    #expect(port.captureFailure == nil)
  }

  @Test("a snap length keeps the beginning of a frame, and says how long it was")
  func snapLength() throws {
    let directory = try PortDirectory()
    let path = directory.path + "/c.pcapng"
    let port = try CapturePort(SinkPort(), to: path, snapByteCount: 20)
    send([frame(1)], to: port)
    let blocks = try blocks(path)
    #expect(blocks[1].number(4) == 20)
    #expect(blocks[2].number(12) == 20 && blocks[2].number(16) == 64)
    #expect(Array(blocks[2].body[20..<40]) == Array(frame(1).prefix(20)))
  }

  @Test("where nothing more can be written, the capture ends with whole blocks, and the port goes on")
  func full() throws {
    let file = try MemoryFile.create(name: "capture", byteCount: 0, isResizable: true)
    let path = "/proc/self/fd/\(file.rawValue)"
    let inner = SinkPort()
    var told: [PortError] = []
    let capture = try CaptureFile(path: path) { told.append($0) }
    let port = CapturePort(inner, to: capture)
    send([frame(1)], to: port)
    // F_ADD_SEALS with F_SEAL_GROW: from now on the file is full.
    try #require(fcntl(file.rawValue, 1033, 4) == 0)
    #expect(send([frame(2)], to: port).isEmpty)
    let error = LinuxError(call: "pwrite", number: EPERM)
    #expect(port.captureFailure == .system("capture \(path)", error))
    #expect(port.failure == nil)
    #expect(send([frame(3)], to: port).isEmpty)
    _ = CapturePort(SinkPort(), to: capture)
    #expect(told == [.system("capture \(path)", error)], "once, and not of each packet")
    #expect(inner.counters.sent == 3)
    #expect(try blocks(path).count == 3)
  }

  @Test("a file that cannot be written is refused at once")
  func noFile() {
    let error = portFailure { () throws(PortError) in _ = try CapturePort(SinkPort(), to: "/none/c.pcapng") }
    #expect(
      error == .system("capture /none/c.pcapng", LinuxError(call: "open", subject: "/none/c.pcapng", number: ENOENT)))
    let full = portFailure { () throws(PortError) in _ = try CapturePort(SinkPort(), to: "/dev/full") }
    #expect(full == .system("capture /dev/full", LinuxError(call: "pwrite", number: ENOSPC)))
  }
}

extension [UInt8] {
  fileprivate func number(_ offset: Int) -> UInt32 {
    littleEndian(UInt32.self, at: offset)
  }
}
