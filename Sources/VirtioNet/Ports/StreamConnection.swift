import LinuxIO

/// Frames on a stream, each behind its length: four bytes, high byte first. A connection that has thrown is of no use.
final class StreamConnection {
  let socket: Socket
  private let name: String
  /// What has come and is not given yet: at `input[start..<end]`, less than one frame after each call but for lack of
  /// room.
  private var input = [UInt8](repeating: 0, count: 128 << 10)
  private var start = 0
  private var end = 0
  private var outgoing = OutgoingMessages(messageCount: PacketBatch.largestCount)
  /// The rest of a frame of which a part has been sent: without it nothing after could be read.
  private var rest: [UInt8] = []
  private var restStart = 0

  private static let lengthByteCount = 4
  /// How many frames that are none are dropped before others get their turn.
  private static let patience = 1024

  init(_ socket: consuming Socket, name: String) {
    socket.sendAtOnce()
    self.socket = socket
    self.name = name
    rest.reserveCapacity(Self.lengthByteCount + PacketBatch.largestFrameByteCount)
  }

  /// Whether a frame has been sent in part.
  var isWithinFrame: Bool { restStart < rest.count }

  /// Sends packets until there are none, or the socket has no room.
  /// - Returns: whether there is more to be sent.
  func send(_ batch: inout PacketBatch, _ counters: inout PortCounters) throws(PortError) -> Bool {
    guard try sendRest(&counters) else { return true }
    while !batch.isEmpty {
      guard let byteCount = try sendOnce(&batch) else { return true }
      guard take(byteCount, off: &batch, &counters) else { return true }
    }
    return false
  }

  /// - Returns: whether nothing is left of it.
  func sendRest(_ counters: inout PortCounters) throws(PortError) -> Bool {
    while isWithinFrame {
      do throws(LinuxError) {
        guard let count = try socket.send(rest, at: restStart..<rest.count) else { return false }
        restStart += count
      } catch {
        throw trouble(error)
      }
      if !isWithinFrame { counters.sent &+= 1 }
    }
    return true
  }

  private func sendOnce(_ batch: inout PacketBatch) throws(PortError) -> Int? {
    outgoing.removeAll()
    for index in 0..<batch.count {
      let frame = batch.frame(index)
      // Of a header with nothing left to be done, the last four bytes mean nothing: the length goes there.
      let start = frame.lowerBound - Self.lengthByteCount
      batch.bytes.setBigEndian32(UInt32(frame.count), at: start)
      outgoing.append(start..<frame.upperBound)
    }
    do throws(LinuxError) {
      return try outgoing.sendAsStream(of: batch.bytes, on: socket)
    } catch {
      throw trouble(error)
    }
  }

  /// Takes off the batch what has been sent, and a packet whole of which a part has.
  /// - Returns: whether it was all.
  private func take(_ byteCount: Int, off batch: inout PacketBatch, _ counters: inout PortCounters) -> Bool {
    var left = byteCount
    while left > 0, !batch.isEmpty {
      let frame = batch.frame(0)
      let whole = frame.lowerBound - Self.lengthByteCount..<frame.upperBound
      if left < whole.count {
        rest.removeAll(keepingCapacity: true)
        rest.append(contentsOf: batch.bytes[whole.lowerBound + left..<whole.upperBound])
        restStart = 0
      } else {
        counters.sent &+= 1
      }
      left -= whole.count
      batch.removeFirst()
    }
    return left == 0 && batch.isEmpty
  }

  /// Gives frames until there are none, or the batch has no room.
  /// - Returns: whether there may be more that the socket will not tell of.
  func receive(into batch: inout PacketBatch, _ counters: inout PortCounters) throws(PortError) -> Bool {
    var patience = Self.patience
    while batch.hasRoom() {
      guard let frame = try nextFrame() else {
        guard try fill() else { return false }
        continue
      }
      start = frame.upperBound
      guard frame.count < PacketBatch.smallestFrameByteCount else {
        batch.append(input[frame])
        counters.received &+= 1
        continue
      }
      counters.drop(.tooShort)
      patience -= 1
      if patience == 0 { return true }
    }
    return false
  }

  /// Where the next frame lies, if all of it is here.
  private func nextFrame() throws(PortError) -> Range<Int>? {
    guard end - start >= Self.lengthByteCount else { return nil }
    let byteCount = input.bigEndian32(at: start)
    guard byteCount <= UInt32(PacketBatch.largestFrameByteCount) else {
      throw .illegalLength(name, byteCount: byteCount)
    }
    let first = start + Self.lengthByteCount
    return end - first >= Int(byteCount) ? first..<first + Int(byteCount) : nil
  }

  /// - Returns: whether something has come.
  private func fill() throws(PortError) -> Bool {
    if input.count - end < Self.lengthByteCount + PacketBatch.largestFrameByteCount {
      input.copyWithin(start..<end, to: 0)
      end -= start
      start = 0
    }
    guard let count = try receiveOnce() else { return false }
    guard count > 0 else { throw .disconnected(name) }
    end += count
    return true
  }

  private func receiveOnce() throws(PortError) -> Int? {
    do throws(LinuxError) {
      return try socket.receive(into: &input, at: end..<input.count)
    } catch {
      throw trouble(error)
    }
  }

  private func trouble(_ error: LinuxError) -> PortError {
    error.isPeerGone ? .disconnected(name) : .system(name, error)
  }
}
