import Glibc
public import LinuxIO

/// Frames behind their lengths on a stream, over TCP or a unix socket: what QEMU's `-netdev stream` and
/// `-netdev socket` speak.
///
/// There is one peer at a time. While there is none, what is sent is dropped; the next one is connected to, or let in,
/// without being asked to.
public final class StreamPort: PacketPort {
  public let name: String
  public private(set) var counters = PortCounters()
  public private(set) var failure: PortError?
  /// Why the last connection ended, or could not be made; nil while there is one.
  public private(set) var trouble: PortError?

  private enum Role {
    case client([SocketAddress])
    case server(Listener)
    /// The connection was given, and there is no other.
    case heir
  }

  private final class Listener {
    let socket: Socket
    init(_ socket: consuming Socket) { self.socket = socket }
  }

  private let role: Role
  private let ready: DescriptorGroup
  private let timer: Timer
  private var connection: StreamConnection?
  /// Whether the connection is still being made.
  private var isConnecting = false
  private var isFull = false
  /// Whether the set has been woken for what is here already.
  private var hasMore = false
  private var attemptCount = 0
  private var nextAttempt: UInt64 = 0
  private var pause = shortestPause

  private static var shortestPause: Duration { .milliseconds(50) }
  private static var longestPause: Duration { .seconds(2) }

  /// Connects to whoever listens at one of the addresses, now and whenever the connection has been lost.
  /// - Parameter addresses: of one peer; they are tried in turn.
  public convenience init(connectingTo addresses: [SocketAddress]) throws(PortError) {
    precondition(!addresses.isEmpty)
    try self.init(.client(addresses), "stream:\(addresses[0])")
    connect()
  }

  /// Lets in who connects to an address, one peer after the other.
  public convenience init(listeningOn address: SocketAddress) throws(PortError) {
    let name = "listen:\(address)"
    let listener: Listener
    do throws(LinuxError) {
      var socket = try Socket(.stream, for: address)
      try socket.bind(to: address)
      try socket.listen()
      listener = Listener(socket)
    } catch {
      throw [EADDRINUSE, EEXIST].contains(error.number) ? .taken("\(address)") : .system(name, error)
    }
    try self.init(.server(listener), name)
    watch { () throws(LinuxError) in try ready.add(listener.socket.descriptor.rawValue, for: .readable) }
  }

  /// Takes over a stream socket that is connected already; the port fails when it ends.
  public convenience init(descriptor: consuming FileDescriptor) throws(PortError) {
    let name = "stream:fd \(descriptor.rawValue)"
    try self.init(.heir, name)
    adopt(Socket(owning: descriptor), isConnecting: false)
  }

  private init(_ role: Role, _ name: String) throws(PortError) {
    self.role = role
    self.name = name
    do throws(LinuxError) {
      ready = try DescriptorGroup()
      timer = try Timer()
      try ready.add(timer.descriptor.rawValue, for: .readable)
    } catch {
      throw .system(name, error)
    }
  }

  /// None: the other side gets no headers.
  public var takenOffloads: Offloads { [] }
  public func setGivenOffloads(_ offloads: Offloads) {}
  public var descriptor: Int32? { ready.descriptor.rawValue }
  /// Whether there is a peer.
  public var isConnected: Bool { connection != nil && !isConnecting }
  /// Where peers connect to; nil for a port that does not listen.
  public var listeningAddress: SocketAddress? {
    guard case .server(let listener) = role else { return nil }
    return try? listener.socket.localAddress
  }

  public func send(_ batch: inout PacketBatch) {
    guard let connection = currentConnection() else {
      counters.drop(failure == nil ? .noReceiver : .portFailed, UInt64(batch.count))
      return batch.removeAll()
    }
    do throws(PortError) {
      try watchForRoom(connection.send(&batch, &counters))
    } catch {
      end(error)
      counters.drop(.portFailed, UInt64(batch.count))
      batch.removeAll()
    }
  }

  public func receive(into batch: inout PacketBatch) {
    if hasMore {
      hasMore = false
      ready.calm()
    }
    // At most one change of peers in a call: one who comes and goes does not keep this thread.
    guard let connection = currentConnection() else { return }
    do throws(PortError) {
      // The rest of a frame goes out when there is room, whether or not there is anything new to be sent.
      if connection.isWithinFrame { try watchForRoom(!connection.sendRest(&counters)) }
      if try connection.receive(into: &batch, &counters) {
        hasMore = true
        ready.wake()
      }
    } catch {
      end(error)
    }
  }
}

/// Making connections and ending them.
extension StreamPort {
  /// The connection to the peer, if there is one; what has to be done to get one is done.
  private func currentConnection() -> StreamConnection? {
    if connection == nil, failure == nil { seekPeer() }
    if isConnecting, let connection { finishConnecting(connection) }
    return isConnecting ? nil : connection
  }

  private func seekPeer() {
    switch role {
    case .client where MonotonicClock.now >= nextAttempt: connect()
    case .server(let listener): accept(from: listener)
    case .client, .heir: break
    }
  }

  private func connect() {
    guard case .client(let addresses) = role else { return }
    timer.stop()
    let address = addresses[attemptCount % addresses.count]
    attemptCount &+= 1
    do throws(LinuxError) {
      let socket = try Socket(.stream, for: address)
      let isDone = try socket.connect(to: address)
      adopt(socket, isConnecting: !isDone)
    } catch {
      end(.system(name, error))
    }
  }

  private func accept(from listener: Listener) {
    do throws(LinuxError) {
      guard let socket = try listener.socket.accept() else { return }
      try ready.change(listener.socket.descriptor.rawValue, to: [])
      adopt(socket, isConnecting: false)
    } catch {
      // A peer that has gone before it was let in, or a lack of descriptors that passes.
      trouble = .system(name, error)
    }
  }

  private func adopt(_ socket: consuming Socket, isConnecting: Bool) {
    let new = StreamConnection(socket, name: name)
    connection = new
    self.isConnecting = isConnecting
    isFull = false
    if !isConnecting { settle() }
    watch { () throws(LinuxError) in
      try ready.add(new.socket.descriptor.rawValue, for: isConnecting ? .writable : .readable)
    }
  }

  private func finishConnecting(_ connection: StreamConnection) {
    if let error = connection.socket.pendingError { return end(.system(name, error)) }
    guard connection.socket.isConnected else { return }
    isConnecting = false
    settle()
    watch { () throws(LinuxError) in try ready.change(connection.socket.descriptor.rawValue, to: .readable) }
  }

  private func settle() {
    trouble = nil
    pause = Self.shortestPause
  }

  /// Lets go of the peer, and sees to it that there can be another one.
  private func end(_ reason: PortError) {
    if connection?.isWithinFrame == true { counters.drop(.portFailed) }
    connection = nil
    isConnecting = false
    trouble = reason
    switch role {
    case .heir: failure = reason
    case .client:
      nextAttempt = MonotonicClock.moment(after: pause)
      timer.start(after: pause)
      pause = min(pause * 2, Self.longestPause)
    case .server(let listener):
      watch { () throws(LinuxError) in try ready.change(listener.socket.descriptor.rawValue, to: .readable) }
    }
  }

  private func watchForRoom(_ isWatching: Bool) {
    guard isWatching != isFull, let connection else { return }
    isFull = isWatching
    watch { () throws(LinuxError) in
      try ready.change(connection.socket.descriptor.rawValue, to: isWatching ? [.readable, .writable] : .readable)
    }
  }

  /// Without its set of descriptors the port would be silent for ever: better that it says so.
  private func watch(_ change: () throws(LinuxError) -> Void) {
    do throws(LinuxError) {
      try change()
    } catch {
      failure = .system(name, error)
      connection = nil
    }
  }
}
