import Glibc
public import LinuxIO

/// One frame a datagram, over UDP or a unix socket: what QEMU's `-netdev dgram` speaks.
public final class DatagramPort: PacketPort {
  public let name: String
  public private(set) var counters = PortCounters()
  public private(set) var failure: PortError?

  private let receiving: Socket
  private let sending: Socket
  /// Nil when the socket came connected.
  private let remote: SocketAddress?
  private let ready: DescriptorGroup
  private var sender = MessageSender()
  private var receiver: MessageReceiver
  private var isConnected: Bool
  private var isFull = false
  /// Whether the set has been woken for what is here already.
  private var hasMore = false
  private var nextAttempt: UInt64 = 0

  /// How long to wait before a unix socket that was not there is looked for again.
  private static var pause: Duration { .milliseconds(100) }
  /// How many datagrams that are no frames are dropped before others get their turn.
  private static var patience: Int { 1024 }

  /// Receives at an address, and sends to another one.
  ///
  /// Over UDP only the other address is listened to. A unix socket takes what anybody sends it, and whoever has the
  /// other path gets what is sent; nobody need have it yet.
  public convenience init(local: SocketAddress, remote: SocketAddress) throws(PortError) {
    let name = "dgram:\(remote)"
    do throws(LinuxError) {
      var socket = try Socket(.datagram, for: local)
      try socket.bind(to: local)
      if remote.path != nil {
        // Connected itself, it would refuse a peer that has come back.
        try self.init(socket, sending: Socket(.datagram, for: remote), to: remote, name, isConnected: false)
      } else {
        _ = try socket.connect(to: remote)
        let second = Socket(owning: try socket.descriptor.duplicate())
        try self.init(socket, sending: second, to: remote, name, isConnected: true)
      }
    } catch {
      throw .system(name, error)
    }
  }

  /// Takes over a datagram socket that is connected already.
  public convenience init(descriptor: consuming FileDescriptor) throws(PortError) {
    let name = "dgram:fd \(descriptor.rawValue)"
    do throws(LinuxError) {
      let second = Socket(owning: try descriptor.duplicate())
      try self.init(Socket(owning: descriptor), sending: second, to: nil, name, isConnected: true)
    } catch {
      throw .system(name, error)
    }
  }

  private init(
    _ receiving: consuming Socket, sending: consuming Socket, to remote: SocketAddress?, _ name: String,
    isConnected: Bool
  ) throws(LinuxError) {
    ready = try DescriptorGroup()
    receiver = try MessageReceiver()
    try ready.add(receiving.descriptor.rawValue, for: .readable)
    try ready.add(sending.descriptor.rawValue, for: [])
    self.receiving = receiving
    self.sending = sending
    self.remote = remote
    self.name = name
    self.isConnected = isConnected
  }

  /// None: the other side gets no headers.
  public var takenOffloads: Offloads { [] }
  public func setGivenOffloads(_ offloads: Offloads) {}
  public var descriptor: Int32? { ready.descriptor.rawValue }

  public func send(_ batch: inout PacketBatch) {
    guard failure == nil else { return drop(&batch, .portFailed) }
    guard isConnected || connect() else { return drop(&batch, .noReceiver) }
    let hasSentAll = sender.send(&batch, on: sending, &counters) { self.refused($0) }
    if hasSentAll == isFull { watchForRoom(!hasSentAll) }
  }

  private func drop(_ batch: inout PacketBatch, _ reason: DropReason) {
    counters.drop(reason, UInt64(batch.count))
    batch.removeAll()
  }

  private func refused(_ error: LinuxError) -> DropReason? {
    switch error.number {
    case EMSGSIZE: return .tooLong
    case ENOBUFS, ENOMEM: return .queueFull
    case ENETUNREACH, EHOSTUNREACH, ENETDOWN: return .noReceiver
    // A filter of packets that somebody has set up.
    case EPERM: return .portFailed
    case ECONNREFUSED, ECONNRESET, ENOTCONN, EPIPE: return lostPeer(error)
    default:
      failure = .system(name, error)
      return .portFailed
    }
  }

  private func lostPeer(_ error: LinuxError) -> DropReason? {
    guard let remote else {
      guard error.number != ECONNREFUSED else { return .noReceiver }
      failure = .disconnected(name)
      return .portFailed
    }
    // Over UDP nobody is there now; at a path there may be somebody else.
    guard remote.path != nil else { return .noReceiver }
    return connect() ? nil : .noReceiver
  }

  private func connect() -> Bool {
    guard let remote, MonotonicClock.now >= nextAttempt else { return false }
    // Also after a success, so that a peer that comes and goes does not keep this thread.
    nextAttempt = MonotonicClock.moment(after: Self.pause)
    do throws(LinuxError) {
      isConnected = try sending.connect(to: remote)
    } catch {
      isConnected = false
    }
    return isConnected
  }

  private func watchForRoom(_ isWatching: Bool) {
    isFull = isWatching
    do throws(LinuxError) {
      try ready.change(sending.descriptor.rawValue, to: isWatching ? .writable : [])
    } catch {
      failure = .system(name, error)
    }
  }

  public func receive(into batch: inout PacketBatch) {
    if hasMore {
      hasMore = false
      ready.calm()
    }
    var patience = Self.patience
    while failure == nil, batch.hasRoom() {
      do throws(LinuxError) {
        guard let index = try receiver.takeNext(from: receiving) else { return }
        if !take(index, &batch) { patience -= 1 }
      } catch {
        // It tells of a datagram that was sent, and comes again with every other one.
        guard [ECONNREFUSED, ECONNRESET, EHOSTUNREACH, ENETUNREACH].contains(error.number) else {
          failure = .system(name, error)
          return
        }
        patience -= 1
      }
      if patience == 0 {
        hasMore = true
        return ready.wake()
      }
    }
  }

  /// - Returns: whether it was a frame.
  private func take(_ index: Int, _ batch: inout PacketBatch) -> Bool {
    let byteCount = receiver.messages.byteCount(index)
    // A connection of packets (SOCK_SEQPACKET) that has ended gives empty ones for ever, and no peer sends any.
    if byteCount == 0, remote == nil { failure = .disconnected(name) }
    guard !receiver.messages.isTruncated(index) else {
      counters.drop(.tooLong)
      return false
    }
    let start = batch.nextPacket
    NetHeader().store(in: &batch.bytes, at: start)
    receiver.messages.copy(0..<byteCount, of: index, to: &batch.bytes, at: start + NetHeader.byteCount)
    return batch.accept(byteCount, &counters)
  }
}
