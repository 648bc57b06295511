import LinuxIO
import Support
import Synchronization
import Testing

@testable import VirtioNet

@Suite("Threaded port") struct ThreadedPortTests {
  /// Waits for signs until the condition holds; the limit is for a test that fails.
  private func wait(for port: some PacketPort, until isTrue: () -> Bool) throws -> Bool {
    let loop = try EventLoop()
    try loop.watch(try #require(port.descriptor), for: [.readable, .writable, .onChange]) {}
    while !isTrue() {
      if try loop.runOnce(within: patience) == 0 { return isTrue() }
    }
    return true
  }

  @Test("packets go through the thread and back, in order and none lost")
  func throughAndBack() throws {
    let port = try ThreadedPort(threadName: "test") { () throws(PortError) in
      do throws(LinuxError) { return try LoopbackPort(packetCount: 100_000, byteCount: 16 << 20) } catch {
        throw PortError.system("loopback", error)
      }
    }
    #expect(port.name == "loopback" && port.takenOffloads == .all)
    let count: UInt32 = 20_000
    var (next, received) = (UInt32(0), [UInt32]())
    var outgoing = PacketBatch()
    var incoming = PacketBatch()
    let isDone = try wait(for: port) {
      repeat {
        while next < count, outgoing.append(BenchFrame.bytes(to: 1, from: 2, next)[...]) { next += 1 }
        port.send(&outgoing)
        port.receive(into: &incoming)
        for index in 0..<incoming.count {
          received.append(BenchFrame.number(of: Array(incoming.bytes[incoming.frame(index)])))
        }
        let isEmpty = incoming.isEmpty
        incoming.removeAll()
        if isEmpty, !outgoing.isEmpty || next == count { break }
      } while true
      return received.count == count
    }
    #expect(isDone)
    #expect(received == Array(0..<count))
  }

  @Test("a port that cannot be opened says why, and its thread ends")
  func noOpening() {
    #expect(throws: PortError.noTap) {
      _ = try ThreadedPort(threadName: "test") { () throws(PortError) in throw PortError.noTap }
    }
  }

  @Test("what was handed over before the end is sent, and the port ends on its thread")
  func end() throws {
    let network = LearningSwitch()
    let other = try network.addPort("other")
    do {
      let port = try ThreadedPort(threadName: "test") { () throws(PortError) in try network.addPort("one") }
      port.sendAll([BenchFrame.bytes(to: 1, from: 2, 7)])
    }
    #expect(other.receiveAll().map(BenchFrame.number) == [7])
    #expect(network.counters.map(\.port) == ["other"])
  }

  @Test("a failure of the port is told, with a sign, and what is sent then is counted")
  func failure() throws {
    let network = LearningSwitch()
    let port = try ThreadedPort(threadName: "test") { () throws(PortError) in try network.addPort("one") }
    network.removePorts(named: "one")
    #expect(try wait(for: port) { port.failure == .disconnected("switch:one") })
    port.sendAll([BenchFrame.bytes(to: 1, from: 2)])
    // Nothing gives a sign of that: it is looked for, for as long as a test that fails may take.
    let end = MonotonicClock.moment(after: patience)
    while port.counters.drops.isEmpty, MonotonicClock.now < end {}
    #expect(port.counters.drops == [.portFailed: 1])
  }

  @Test("a card that does not ask is waited for, and a port without room too: each direction holds what it must")
  func bounded() throws {
    let network = LearningSwitch()
    let other = try network.addPort("other")
    let port = try ThreadedPort(threadName: "test") { () throws(PortError) in try network.addPort("one") }
    var expected: [UInt32] = []
    for number in 0..<UInt32(500) {
      other.sendAll([BenchFrame.bytes(to: BenchFrame.everybody, from: 2, number)])
      expected.append(number)
    }
    var received: [UInt32] = []
    let isDone = try wait(for: port) {
      received += port.receiveAll().map(BenchFrame.number)
      return received.count == expected.count
    }
    #expect(isDone && received == expected)
  }

  /// What two cards have got.
  private final class Results: Sendable {
    let numbers = Mutex<[UInt64: [UInt32]]>([:])
    let finished: Semaphore

    init() throws { finished = try Semaphore() }
  }

  /// A card on a thread of its own that sends and receives so many packets, as fast as it can.
  private static func start(
    _ port: sending SwitchPort, from own: UInt64, to peer: UInt64, _ count: UInt32, _ results: Results
  ) throws {
    _ = try Thread(name: "card") {
      var next: UInt32 = 0
      var received: [UInt32] = []
      var batch = PacketBatch()
      let end = MonotonicClock.moment(after: patience)
      while received.count < count, MonotonicClock.now < end {
        while next < count, batch.append(BenchFrame.bytes(to: peer, from: own, next)[...]) { next += 1 }
        port.send(&batch)
        port.receive(into: &batch)
        for index in 0..<batch.count { received.append(BenchFrame.number(of: Array(batch.bytes[batch.frame(index)]))) }
        batch.removeAll()
      }
      results.numbers.withLock { $0[own] = received }
      results.finished.signal()
    }
  }

  @Test("two cards on two threads lose nothing below the bounds, and neither waits for the other for ever")
  func twoThreads() throws {
    var options = SwitchOptions()
    options.queuePacketCount = 1 << 16
    options.queueByteCount = 64 << 20
    options.floodRate = nil
    let network = LearningSwitch(options)
    let results = try Results()
    let count: UInt32 = 30_000
    let first = try network.addPort("first")
    let second = try network.addPort("second")
    try Self.start(first, from: 2, to: 4, count, results)
    try Self.start(second, from: 4, to: 2, count, results)
    results.finished.wait()
    results.finished.wait()
    let expected = Array(0..<count)
    results.numbers.withLock { #expect($0[2] == expected && $0[4] == expected) }
  }
}
