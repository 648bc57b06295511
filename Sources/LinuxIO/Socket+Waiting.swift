import Glibc

/// Calls that wait, for so long at most.
extension Socket {
  /// Connects to an address.
  /// - Parameter limit: `ETIMEDOUT` is thrown when that takes longer.
  public func connect(
    to address: SocketAddress, within limit: Duration, unless cancellation: Cancellation? = nil
  ) throws(LinuxError) {
    if try connect(to: address) { return }
    let deadline = Deadline(after: limit)
    guard try wait(for: POLLOUT, on: descriptor.rawValue, until: deadline, unless: cancellation) else {
      throw LinuxError(call: "connect", subject: address.description, number: ETIMEDOUT)
    }
    if let pendingError {
      throw LinuxError(call: "connect", subject: address.description, number: pendingError.number)
    }
  }

  /// Takes the next peer that has connected, and waits for one when there is none.
  /// - Parameter limit: `ETIMEDOUT` is thrown when nobody has come after so long.
  public func accept(within limit: Duration, unless cancellation: Cancellation? = nil) throws(LinuxError) -> Socket {
    let deadline = Deadline(after: limit)
    while true {
      if let cancellation, cancellation.isCancelled { throw LinuxError(call: "accept4", number: ECANCELED) }
      do throws(LinuxError) {
        if let peer = try accept() { return peer }
      } catch {
        // That peer has gone again; the next one may be there.
        guard error.number == ECONNABORTED else { throw error }
        continue
      }
      guard try wait(for: POLLIN, on: descriptor.rawValue, until: deadline, unless: cancellation) else {
        throw LinuxError(call: "accept4", number: ETIMEDOUT)
      }
    }
  }

  /// Whether it carries a stream of bytes, and not messages.
  public var isStream: Bool {
    var kind: Int32 = 0
    var length = socklen_t(MemoryLayout<Int32>.size)
    let result = unsafe getsockopt(descriptor.rawValue, SOL_SOCKET, SO_TYPE, &kind, &length)
    return result == 0 && kind == Int32(SOCK_STREAM.rawValue)
  }

  /// Whether its peer is on this machine, so that descriptors can go with what is sent.
  var isLocal: Bool {
    var family: Int32 = 0
    var length = socklen_t(MemoryLayout<Int32>.size)
    let result = unsafe getsockopt(descriptor.rawValue, SOL_SOCKET, SO_DOMAIN, &family, &length)
    return result == 0 && family == AF_UNIX
  }

  /// Has TCP notice within about a minute that the peer's machine is gone, when nothing is sent meanwhile; nothing
  /// happens on other sockets.
  public func watchPeer() {
    // It fails only where there is nothing to be changed.
    _ = try? setOption(SOL_SOCKET, SO_KEEPALIVE, to: 1)
    for (name, value) in [(TCP_KEEPIDLE, 30), (TCP_KEEPINTVL, 10), (TCP_KEEPCNT, 3)] as [(Int32, Int32)] {
      _ = try? setOption(Int32(IPPROTO_TCP), name, to: value)
    }
  }

  /// Has a unix socket take about so many bytes before its peer has read any, as far as the kernel permits (`wmem_max`):
  /// the two then wait less often for each other. TCP finds out by itself what it needs.
  public func buffer(_ byteCount: Int) {
    guard isLocal else { return }
    // The kernel takes half of it for its own purposes. With less the socket works all the same.
    _ = try? setOption(SOL_SOCKET, SO_SNDBUF, to: Int32(clamping: byteCount / 2))
  }
}
