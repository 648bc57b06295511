import Glibc
import LinuxIO

/// Sends the packets of a batch as messages of a socket.
struct MessageSender: ~Copyable {
  private var messages: OutgoingMessages
  private let headerByteCount: Int

  /// - Parameter headerByteCount: how much of each packet's header goes in front of its frame.
  init(headerByteCount: Int = 0) {
    self.headerByteCount = headerByteCount
    messages = OutgoingMessages(
      messageCount: PacketBatch.largestCount, partsPerMessage: headerByteCount > 0 ? 2 : 1)
  }

  /// Sends packets until there are none, or the socket has no room.
  /// - Parameter refused: told why the socket would not take a packet; returns why it is dropped, or nil to try again.
  /// - Returns: whether all have been taken.
  mutating func send(
    _ batch: inout PacketBatch, on socket: borrowing Socket, _ counters: inout PortCounters,
    refused: (LinuxError) -> DropReason?
  ) -> Bool {
    messages.removeAll()
    for index in 0..<batch.count { append(batch.packet(index)) }
    let count = batch.count
    var done = 0
    defer { batch.removeFirst(done) }
    while done < count {
      do throws(LinuxError) {
        guard let sent = try messages.send(from: done, of: batch.bytes, on: socket) else { return false }
        counters.sent &+= UInt64(sent)
        done += sent
      } catch {
        guard let reason = refused(error) else { continue }
        counters.drop(reason)
        done += 1
      }
    }
    return true
  }

  private mutating func append(_ packet: Range<Int>) {
    if headerByteCount > 0 { messages.append(packet.lowerBound..<packet.lowerBound + headerByteCount) }
    messages.append(packet.lowerBound + NetHeader.byteCount..<packet.upperBound)
  }
}

/// Receives messages of a socket, and hands them out one by one.
struct MessageReceiver: ~Copyable {
  private(set) var messages: IncomingMessages
  private var next = 0

  init(headerByteCount: Int = 0, hasTags: Bool = false) throws(LinuxError) {
    messages = try IncomingMessages(
      capacity: PacketBatch.largestCount, byteCount: headerByteCount + PacketBatch.largestFrameByteCount,
      hasTags: hasTags)
  }

  /// The number of the next message, which stays in `messages` until the call after; nil when there is none.
  mutating func takeNext(from socket: borrowing Socket) throws(LinuxError) -> Int? {
    if next == messages.count {
      next = 0
      guard try messages.receive(on: socket) else { return nil }
    }
    defer { next += 1 }
    return next
  }
}
