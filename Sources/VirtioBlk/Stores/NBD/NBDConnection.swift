import LinuxIO
import Synchronization

/// One connection to an export, for requests of many threads at once. It fails once, for all, and for good.
///
/// There is no thread for the replies. Of those that wait one reads: a header that is its own, and then what follows it
/// into its own memory; or another's, who reads on from there. So every byte goes straight where it belongs.
final class NBDConnection: Sendable {
  private struct Waiter {
    let wakeUp: WakeUp
    /// Whether it has sent its request whole, and so is free to read.
    var isWaiting = false
    /// The header of its reply, which somebody else has read; what follows it is the waiter's to read.
    var header: NBDReplyHeader?
  }

  private struct Traffic {
    var waiters: [UInt64: Waiter] = [:]
    var lastHandle: UInt64 = 0
    /// Whether somebody reads, or has been left a header and is about to.
    var hasReader = false
    var hasAnswered = false
    var failure: NBDError?
    /// For the waiters to come.
    var spare: [WakeUp] = []
  }

  private enum Turn {
    case readHeader
    case readOn(NBDReplyHeader)
  }

  let export: NBDExport
  private let socket: StreamSocket
  /// Held by whoever sends, so that requests do not mix.
  private let sending = Mutex(())
  private let traffic = Monitor(Traffic())

  /// Connects and agrees on the export.
  /// - Parameter limit: for both together.
  init(to address: NBDAddress, within limit: Duration) throws(NBDError) {
    let moment = MonotonicClock.moment(after: limit)
    let socket: StreamSocket
    do {
      socket =
        switch address.place {
        case .host(let host, let port): try .connect(toHost: host, port: port, within: limit)
        case .socket(let path): try .connect(toPath: path, within: limit)
        }
    } catch {
      throw error.isTimeOut ? .timedOut : .lost(error)
    }
    var negotiation = NBDNegotiation(socket, until: moment)
    export = try negotiation.agree(on: address.exportName)
    self.socket = negotiation.socket
  }

  deinit {
    guard isUsable else { return }
    // A farewell that does not arrive is none the server waits for.
    let farewell = NBDRequest(command: .disconnect, offset: 0, byteCount: 0)
    try? socket.send(farewell.header(handle: 0), within: .zero)
  }

  var isUsable: Bool { traffic.withLock { $0.failure == nil } }

  /// Whether the server ever answered a request.
  var hasAnswered: Bool { traffic.withLock { $0.hasAnswered } }

  /// Carries out one request, while others do the same.
  ///
  /// Throws `refused` when the server answers so; every other `NBDError` is the end of the connection.
  /// - Parameter limit: how long the whole may take.
  func exchange(_ request: NBDRequest, _ data: inout BlockData, within limit: Duration) throws(StoreError) {
    let moment = MonotonicClock.moment(after: limit)
    let (handle, wakeUp) = try enter()
    do throws(StoreError) {
      try send(request, handle, &data, until: moment)
      let outcome = try awaitReply(to: request, handle, wakeUp, &data, until: moment)
      leave(handle, wakeUp)
      if let outcome { throw outcome == .stopping ? fail(outcome) : .nbd(outcome) }
    } catch {
      forget(handle)
      throw error
    }
  }

  private func enter() throws(StoreError) -> (handle: UInt64, wakeUp: WakeUp) {
    try traffic.withLock { (traffic) throws(StoreError) in
      if let failure = traffic.failure { throw .nbd(failure) }
      let wakeUp = traffic.spare.popLast() ?? WakeUp()
      traffic.lastHandle += 1
      traffic.waiters[traffic.lastHandle] = Waiter(wakeUp: wakeUp)
      return (traffic.lastHandle, wakeUp)
    }
  }

  /// Leaves after the whole reply, and has another one read.
  private func leave(_ handle: UInt64, _ wakeUp: WakeUp) {
    let next = traffic.withLock { (traffic) in
      traffic.waiters[handle] = nil
      traffic.spare.append(wakeUp)
      traffic.hasReader = false
      traffic.hasAnswered = true
      return traffic.waiters.values.first { $0.isWaiting }?.wakeUp
    }
    next?.wakeAll()
  }

  private func forget(_ handle: UInt64) {
    traffic.withLock { (traffic) in traffic.waiters[handle] = nil }
  }

  /// Ends the connection for everybody.
  /// - Returns: why it ended first.
  private func fail(_ error: NBDError) -> StoreError {
    let (first, waiters) = traffic.withLock { (traffic) in
      let first = traffic.failure ?? error
      traffic.failure = first
      return (first, traffic.waiters.values.map(\.wakeUp))
    }
    socket.shutDown()
    for wakeUp in waiters { wakeUp.wakeAll() }
    return .nbd(first)
  }

  private func send(
    _ request: NBDRequest, _ handle: UInt64, _ data: inout BlockData, until moment: UInt64
  ) throws(StoreError) {
    let header = request.header(handle: handle)
    do throws(StoreError) {
      switch request.payload {
      case .none: try send(header, until: moment)
      case .zeros(let count): try send(header + [UInt8](repeating: 0, count: count), until: moment)
      case .filled(let part):
        // Memory that is none is found before there is a reply that has nowhere to go.
        _ = try data.fill(part) { _ in 0 }
        try send(header, until: moment)
      case .drained(let part):
        _ = try data.drain(part) { (vectors) throws(StoreError) in
          try send(header, vectors, until: moment)
          return part.count
        }
      }
    } catch {
      guard case .nbd(let error) = error else { throw error }
      throw fail(error)
    }
  }

  private func send(_ bytes: [UInt8], until moment: UInt64) throws(StoreError) {
    try sending.withLock { (_) throws(StoreError) in
      do throws(LinuxError) {
        try socket.send(bytes, within: MonotonicClock.timeLeft(until: moment))
      } catch {
        throw .nbd(NBDError(error))
      }
    }
  }

  private func send(_ header: [UInt8], _ vectors: borrowing IOVectors, until moment: UInt64) throws(StoreError) {
    try sending.withLock { (_) throws(StoreError) in
      do throws(LinuxError) {
        try socket.send(header, isFirstPart: true, within: MonotonicClock.timeLeft(until: moment))
        try socket.send(vectors, within: MonotonicClock.timeLeft(until: moment))
      } catch {
        throw .nbd(NBDError(error))
      }
    }
  }

  /// - Returns: nil for success, or what the server answered instead.
  private func awaitReply(
    to request: NBDRequest, _ handle: UInt64, _ wakeUp: WakeUp, _ data: inout BlockData, until moment: UInt64
  ) throws(StoreError) -> NBDError? {
    var reply = NBDReply(to: request, isStructured: export.isStructured)
    var turn = try nextTurn(handle, wakeUp, until: moment)
    while true {
      switch turn {
      case .readHeader:
        let header = try receiveHeader(until: moment)
        if header.handle == handle {
          turn = .readOn(header)
        } else {
          try handOver(header)
          turn = try nextTurn(handle, wakeUp, until: moment)
        }
      case .readOn(let header):
        if let outcome = try take(header, &reply, &data, until: moment) { return outcome }
        turn = .readHeader
      }
    }
  }

  /// Waits until there is something for this request to read.
  private func nextTurn(_ handle: UInt64, _ wakeUp: WakeUp, until moment: UInt64) throws(StoreError) -> Turn {
    let turn = try traffic.wait(on: wakeUp, until: moment) { (traffic) throws(StoreError) -> Turn? in
      if let failure = traffic.failure { throw .nbd(failure) }
      traffic.waiters[handle]?.isWaiting = true
      if let header = traffic.waiters[handle]?.header {
        traffic.waiters[handle]?.header = nil
        return .readOn(header)
      }
      guard !traffic.hasReader else { return nil }
      traffic.hasReader = true
      return .readHeader
    }
    guard let turn else { throw fail(.timedOut) }
    return turn
  }

  private func receiveHeader(until moment: UInt64) throws(StoreError) -> NBDReplyHeader {
    do {
      return try NBDReplyHeader.receive(from: socket, until: moment)
    } catch {
      throw fail(error)
    }
  }

  /// Leaves a header, and the reading, to whom it belongs.
  private func handOver(_ header: NBDReplyHeader) throws(StoreError) {
    let owner = traffic.withLock { (traffic) in
      traffic.waiters[header.handle]?.header = header
      return traffic.waiters[header.handle]?.wakeUp
    }
    guard let owner else { throw fail(.unknownHandle(header.handle)) }
    owner.wakeAll()
  }

  private func take(
    _ header: NBDReplyHeader, _ reply: inout NBDReply, _ data: inout BlockData, until moment: UInt64
  ) throws(StoreError) -> NBDError?? {
    do throws(StoreError) {
      return try reply.take(header, from: socket, &data, until: moment)
    } catch {
      guard case .nbd(let error) = error else {
        // The rest of the reply has nowhere to go, so nobody can find the next one.
        _ = fail(.closed)
        throw error
      }
      throw fail(error)
    }
  }
}
