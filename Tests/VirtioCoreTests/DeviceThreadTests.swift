import DeviceState
import GuestRAM
import LinuxIO
import Support
import Synchronization
import Testing
import VirtioCore

@Suite("Device thread")
struct DeviceThreadTests {
  private typealias Echo = DeviceThread<EchoDevice>

  /// What several threads write into.
  private final class Ledger: Sendable {
    let entries = Mutex<[Int]>([])

    func note(_ entry: Int) { entries.withLock { $0.append(entry) } }
    var all: [Int] { entries.withLock { $0 } }
  }

  private func echoThread(told: Ledger = Ledger()) throws -> Echo {
    try Echo(name: "echo") { _ in
      DeviceHost(EchoDevice()) { notification in if case .queue(let index) = notification { told.note(index) } }
    }
  }

  /// A ring that is served by the thread.
  private func ring(on thread: Echo) throws -> RingFixture {
    let memory = try GuestMemory(byteCount: 1 << 20)
    let ring = try RingFixture(size: 64, memory: memory)
    let configuration = try ring.configuration()
    let error = try thread.call { (host) in
      refusal { () throws(HostError) in
        try host.attach(memory)
        try host.acceptFeatures([.version1])
        try host.startQueue(0, configuration)
      }
    }
    #expect(error == .some(nil))
    return ring
  }

  @Test("Work is done in the order in which it was posted, and a call comes after it")
  func order() throws {
    let thread = try echoThread()
    let ledger = Ledger()
    for number in 0..<100 { #expect(thread.post { _ in ledger.note(number) }) }
    #expect(try thread.call { _ in ledger.all } == Array(0..<100))
    thread.stop()
  }

  @Test("Work has the host, and what it does to it stays")
  func host() throws {
    let thread = try echoThread()
    thread.post { host in host.update { $0.operatorNumber = 77 } }
    #expect(try thread.call { (host) in host.readConfig(at: 0, byteCount: 1) } == [77])
    thread.stop()
  }

  @Test("stop does what was posted before; afterwards posts are refused and calls answer nil")
  func stopping() throws {
    let thread = try echoThread()
    let ledger = Ledger()
    for number in 0..<10 { thread.post { _ in ledger.note(number) } }
    thread.stop()
    #expect(ledger.all == Array(0..<10))
    #expect(thread.post { _ in ledger.note(10) } == false)
    thread.kick(0)
    #expect(try thread.call { _ in 1 } == nil)
    thread.stop()
    #expect(ledger.all.count == 10)
  }

  @Test("Calls that wait while the thread ends are answered, with what they asked for or with nil")
  func stoppingUnderLoad() throws {
    for _ in 0..<20 {
      let thread = try echoThread()
      let ledger = Ledger()
      let callers = try (0..<3).map { number in
        try Joinable {
          while let answer = try? thread.call({ _ in number }) { ledger.note(answer) }
        }
      }
      // Work that is on its way when the end is asked for.
      let gate = try Handover<Bool>()
      thread.post { _ in _ = gate.wait() }
      let stopper = try Joinable { thread.stop() }
      thread.post { _ in }
      gate.put(true)
      stopper.join()
      for caller in callers { caller.join() }
      #expect(ledger.all.allSatisfy { (0..<3).contains($0) })
    }
  }

  @Test("Kicks from several threads are all served")
  func kicks() throws {
    let told = Ledger()
    let thread = try echoThread(told: told)
    var ring = try ring(on: thread)
    for _ in 0..<50 {
      for _ in 0..<60 { try ring.send([.readable(ring.heap.rawValue, 1)]) }
      let kickers = try (0..<3).map { _ in
        try Joinable { for _ in 0..<10 { thread.kick(0) } }
      }
      for kicker in kickers { kicker.join() }
      _ = try thread.call { _ in }
      #expect(try ring.takeAllUsed().count == 60)
    }
    #expect(Set(told.all) == [0])
    thread.stop()
  }

  @Test("Kicks that pile up while the device is busy are one: a driver cannot fill the inbox")
  func pile() throws {
    let thread = try echoThread()
    var ring = try ring(on: thread)
    let gate = try Handover<Bool>()
    thread.post { _ in _ = gate.wait() }
    try ring.send([.readable(ring.heap.rawValue, 1)])
    for _ in 0..<10_000 { thread.kick(0) }
    gate.put(true)
    let servedCount = try thread.call { (host) in host.device.calls.filter { $0 == .serve(0) }.count }
    #expect(servedCount == 1)
    #expect(try ring.takeAllUsed().count == 1)
    thread.stop()
  }

  @Test("A driver that never pauses does not keep others from the thread, and its last buffers are served")
  func endless() throws {
    let thread = try echoThread()
    let ring = try ring(on: thread)
    let isStopped = Ledger()
    thread.post { host in
      var driver = ring
      let buffer = RingFixture.Buffer.readable(ring.heap.rawValue, 1)
      host.update { device in
        device.afterServing = { _ in
          _ = try? driver.takeAllUsed()
          if isStopped.all.isEmpty { _ = try? driver.send([buffer]) }
        }
      }
    }
    thread.kick(0)
    for _ in 0..<20 { #expect(try thread.call { _ in true } == true) }
    isStopped.note(1)
    for _ in 0..<5 { _ = try thread.call { _ in } }
    let available = try ring.memory.acquire(at: ring.availableRing.offset(2))
    #expect(try ring.publishedUsedIndex == available)
    thread.stop()
  }

  @Test("A thread whose last owner lets go of it ends, and what is on it goes too")
  func letGo() throws {
    let end = try Handover<Bool>()
    do {
      let thread = try echoThread()
      let canary = Canary(end)
      thread.post { host in host.update { device in device.afterServing = { _ in _ = canary } } }
    }
    #expect(end.wait())
  }

  /// Tells when it goes.
  private final class Canary: Sendable {
    let end: Handover<Bool>

    init(_ end: Handover<Bool>) { self.end = end }
    deinit { end.put(true) }
  }

  /// A thread that can be kept in an array.
  private final class Joinable: Sendable {
    let thread: Mutex<Thread?>

    init(_ body: @escaping @Sendable () -> Void) throws(LinuxError) {
      thread = Mutex(try Thread(name: "test", body))
    }

    func join() {
      if let thread = thread.withLock({ $0.take() }) { thread.join() }
    }
  }
}

@Suite("Handover between threads")
struct HandoverTests {
  @Test("The first value counts, and every wait returns it")
  func first() throws {
    let handover = try Handover<Int?>()
    handover.put(nil)
    handover.put(2)
    #expect(handover.wait() == nil)
    #expect(handover.wait() == nil)
  }

  @Test("A wait ends with the value of another thread")
  func across() throws {
    let handover = try Handover<Int>()
    let thread = try Thread(name: "giver") { handover.put(5) }
    #expect(handover.wait() == 5)
    thread.join()
  }
}
