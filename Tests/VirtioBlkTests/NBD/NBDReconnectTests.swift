import GuestRAM
import LinuxIO
import Testing

@testable import VirtioBlk

@Suite("NBD reconnection") struct NBDReconnectTests {
  private func options(request: Duration = .seconds(20), reconnect: Duration = .seconds(20)) -> NBDOptions {
    var options = NBDOptions()
    options.requestLimit = request
    options.reconnectLimit = reconnect
    return options
  }

  /// A server that takes one request and is gone.
  private static let gone: NBDTestServer.Script = { (peer) in
    try peer.negotiate()
    _ = try peer.request()
  }

  private static let well: NBDTestServer.Script = { (peer) in
    try peer.negotiate()
    try peer.serve(Monitor([UInt8](repeating: 7, count: 1 << 20)))
  }

  @Test("a request without an answer is made again on the next connection")
  func again() throws {
    let disk = Monitor([UInt8](repeating: 0, count: 1 << 20))
    let good: NBDTestServer.Script = { (peer) in
      try peer.negotiate()
      try peer.serve(disk)
    }
    try NBDTestServer.run([Self.gone, good]) { (address) in
      let probe = try StoreProbe(try NBDStore(address, options: options()))
      try probe.write([UInt8](repeating: 6, count: 4096), at: 4096)
      #expect(try probe.read(4096, at: 4096) == [UInt8](repeating: 6, count: 4096))
    }
    #expect(disk.withLock { Array($0[4096..<8192]) } == [UInt8](repeating: 6, count: 4096))
  }

  @Test("all that were in flight are made again, those of other threads too")
  func allAgain() throws {
    let threads = 6
    let gone: NBDTestServer.Script = { (peer) in
      try peer.negotiate()
      for _ in 0..<threads { _ = try peer.request() }
    }
    try NBDTestServer.run([gone, Self.well]) { (address) in
      let store = try NBDStore(address, options: options())
      let right = Monitor(0)
      try withThreads(threads) { (index) in
        guard let probe = try? StoreProbe(store, mostByteCount: 4096) else { return }
        let bytes = try? probe.read(512, at: UInt64(index) * 512)
        if bytes == [UInt8](repeating: 7, count: 512) { right.withLock { $0 += 1 } }
      }
      #expect(right.withLock { $0 } == threads)
    }
  }

  @Test("half of a reply is not a reply")
  func halfReply() throws {
    let half: NBDTestServer.Script = { (peer) in
      try peer.negotiate()
      let request = try peer.request()
      try peer.send(peer.chunkHeader(request.handle, 1, isLast: true, byteCount: 4104), big(request.offset), [1, 2, 3])
    }
    try NBDTestServer.run([half, Self.well]) { (address) in
      let probe = try StoreProbe(try NBDStore(address, options: options()))
      #expect(try probe.read(4096, at: 0) == [UInt8](repeating: 7, count: 4096))
    }
  }

  @Test("a server that says it is stopping, or does not answer in time, is left for the next")
  func stopping() throws {
    let stopping: NBDTestServer.Script = { (peer) in
      try peer.negotiate()
      try peer.simple(try peer.request().handle, error: 108)
      _ = try? peer.receive(1)
    }
    let mute: NBDTestServer.Script = { (peer) in
      try peer.negotiate()
      _ = try peer.request()
      _ = try? peer.receive(1)
    }
    try NBDTestServer.run([stopping, mute, Self.well]) { (address) in
      let probe = try StoreProbe(try NBDStore(address, options: options(request: .milliseconds(300))))
      #expect(try probe.read(512, at: 0) == [UInt8](repeating: 7, count: 512))
    }
  }

  @Test("a server that takes no request whole is left for the next")
  func deaf() throws {
    let isOver = Monitor(false)
    let over = WakeUp()
    let deaf: NBDTestServer.Script = { (peer) in
      try peer.negotiate()
      _ = isOver.wait(on: over) { $0 ? true : nil }
    }
    try NBDTestServer.run([deaf, Self.well]) { (address) in
      defer {
        isOver.withLock { $0 = true }
        over.wakeAll()
      }
      let probe = try StoreProbe(try NBDStore(address, options: options(request: .milliseconds(300))))
      try probe.write([UInt8](repeating: 1, count: 1 << 20), at: 0)
      #expect(try probe.read(512, at: 0) == [UInt8](repeating: 1, count: 512))
    }
  }

  @Test("an export that became smaller, read-only or coarser is refused by name")
  func changed() throws {
    func failure(_ byteCount: UInt64, _ flags: UInt16, _ sizes: [UInt32]?) -> NBDError? {
      let other: NBDTestServer.Script = { (peer) in
        try peer.negotiate(byteCount: byteCount, flags: flags, sizes: sizes)
        _ = try? peer.receive(1)
      }
      return nbdFailure {
        try NBDTestServer.run([Self.gone, other]) { (address) in
          _ = try StoreProbe(try NBDStore(address, options: options())).read(512, at: 0)
        }
      }
    }
    #expect(failure(1 << 19, 0b101, nil) == .shrunk(from: 1 << 20, to: 1 << 19))
    #expect(failure(1 << 20, 0b111, nil) == .lostWriteAccess)
    #expect(failure(1 << 20, 0b101, [4096, 4096, 1 << 20]) == .blocksGrew(from: 512, to: 4096))
  }

  @Test("a disk keeps its size when the export grows")
  func grown() throws {
    let larger: NBDTestServer.Script = { (peer) in
      try peer.negotiate(byteCount: 1 << 21)
      try peer.serve(Monitor([UInt8](repeating: 7, count: 1 << 21)))
    }
    try NBDTestServer.run([Self.gone, larger]) { (address) in
      let store = try NBDStore(address, options: options())
      _ = try StoreProbe(store).read(512, at: 0)
      #expect(store.byteCount == 1 << 20)
    }
  }

  @Test("when no server comes back the request fails after the time that was given, and says why")
  func givesUp() throws {
    let failure = nbdFailure {
      var store: NBDStore?
      try NBDTestServer.run([Self.gone]) { (address) in
        store = try NBDStore(address, options: options(reconnect: .milliseconds(250)))
        _ = try StoreProbe(try #require(store)).read(512, at: 0)
      }
    }
    guard case .gaveUp(let last) = failure else {
      Issue.record("\(String(describing: failure))")
      return
    }
    #expect(last.isTransient)
  }

  @Test("a server that always breaks off before it answers is not asked for ever")
  func endless() throws {
    let start = MonotonicClock.now
    let failure = nbdFailure {
      try NBDTestServer.run(Array(repeating: Self.gone, count: 100)) { (address) in
        let store = try NBDStore(address, options: options(reconnect: .milliseconds(500)))
        _ = try StoreProbe(store).read(512, at: 0)
      }
    }
    #expect(failure == .gaveUp(.closed))
    #expect(MonotonicClock.now - start < 20_000_000_000)
  }

  @Test("after a reply that breaks the protocol the next request has a new connection")
  func afterViolation() throws {
    let bad: NBDTestServer.Script = { (peer) in
      try peer.negotiate()
      try peer.simple(try peer.request().handle &+ 99)
      _ = try? peer.receive(1)
    }
    try NBDTestServer.run([bad, Self.well]) { (address) in
      let probe = try StoreProbe(try NBDStore(address, options: options()))
      let failure = nbdFailure { _ = try probe.read(512, at: 0) }
      #expect(failure == .unknownHandle(100))
      #expect(try probe.read(512, at: 0) == [UInt8](repeating: 7, count: 512))
    }
  }
}
