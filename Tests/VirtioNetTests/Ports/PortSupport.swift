import Foundation
import LinuxIO
import Support
import Testing

@testable import VirtioNet

/// A frame between two addresses, of a protocol kept for experiments, with a number in it.
func frame(_ number: Int, byteCount: Int = 64) -> [UInt8] {
  let head: [UInt8] = [0x02, 0, 0, 0, 0, 1, 0x02, 0, 0, 0, 0, 2, 0x88, 0xb5]
  return head + (0..<byteCount - head.count).map { UInt8(truncatingIfNeeded: $0 &* 7 &+ number) }
}

/// Has the port send frames; those that it does not take are returned.
@discardableResult
func send(_ frames: [[UInt8]], to port: some PacketPort) -> [[UInt8]] {
  var batch = PacketBatch(byteCount: 1 << 20)
  for frame in frames { batch.append(frame[...]) }
  let count = batch.count
  #expect(count == frames.count)
  port.send(&batch)
  return framesOf(batch)
}

/// All that the port has now.
func receive(from port: some PacketPort) -> [[UInt8]] {
  var batch = PacketBatch()
  var frames: [[UInt8]] = []
  repeat {
    batch.removeAll()
    port.receive(into: &batch)
    frames += framesOf(batch)
  } while !batch.isEmpty
  return frames
}

/// Which packets there are, and their headers.
func headersOf(_ batch: borrowing PacketBatch) -> [NetHeader?] {
  var headers: [NetHeader?] = []
  for index in 0..<batch.count { headers.append(batch.header(index)) }
  return headers
}

func framesOf(_ batch: borrowing PacketBatch) -> [[UInt8]] {
  var frames: [[UInt8]] = []
  for index in 0..<batch.count { frames.append(Array(batch.bytes[batch.frame(index)])) }
  return frames
}

/// Watches a port as a card does, and serves it at each change until a condition holds.
func serve(_ port: some PacketPort, until isDone: ([[UInt8]]) -> Bool) throws -> [[UInt8]] {
  let loop = try EventLoop()
  try loop.watch(#require(port.descriptor), for: [.readable, .writable, .onChange]) {}
  var frames: [[UInt8]] = []
  while true {
    frames += receive(from: port)
    if isDone(frames) { return frames }
    try #require(try loop.runOnce(within: patience) > 0, "the port tells of nothing any more")
  }
}

/// A directory of its own, removed with its value.
final class PortDirectory {
  let path: String

  init() throws {
    let url = FileManager.default.temporaryDirectory.appendingPathComponent("ports-\(UUID().uuidString.prefix(8))")
    try FileManager.default.createDirectory(at: url, withIntermediateDirectories: true)
    path = url.path
  }

  deinit { try? FileManager.default.removeItem(atPath: path) }
}

/// The error that the body throws, or nil.
func portFailure(_ body: () throws(PortError) -> Void) -> PortError? {
  do throws(PortError) {
    try body()
    return nil
  } catch {
    return error
  }
}
