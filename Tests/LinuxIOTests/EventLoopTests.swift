import Glibc
import LinuxIO
import Synchronization
import Testing

/// What handlers, which all run on the test's own thread, have seen.
private final class Record {
  var lines: [String] = []
  var registrations: [EventLoop.Registration] = []
}

@Suite("EventLoop") struct EventLoopTests {
  @Test("a handler is called while its descriptor is readable, and no longer")
  func levelTriggered() throws {
    let loop = try EventLoop()
    let event = try Eventfd()
    let record = Record()
    try loop.watch(event.descriptor.rawValue) { record.lines.append("called") }
    #expect(try loop.runOnce(within: .zero) == 0)
    event.signal()
    #expect(try loop.runOnce() == 1)
    #expect(try loop.runOnce() == 1)
    event.drain()
    #expect(try loop.runOnce(within: .zero) == 0)
    #expect(record.lines.count == 2)
  }

  @Test("a watch that another handler of the same batch cancels is not called")
  func cancelWithinBatch() throws {
    let loop = try EventLoop()
    let events = Events()
    let record = Record()
    for descriptor in try events.make(count: 3) {
      record.registrations.append(
        try loop.watch(descriptor) {
          record.lines.append("called")
          for registration in record.registrations { loop.cancel(registration) }
        })
    }
    events.signalAll()
    #expect(try loop.runOnce() == 1)
    #expect(try loop.runOnce(within: .zero) == 0)
    #expect(record.lines == ["called"])
  }

  @Test("an event of a closed descriptor does not reach the watch that reuses its number")
  func staleEvent() throws {
    let loop = try EventLoop()
    let events = Events()
    let record = Record()
    for descriptor in try events.make(count: 2) {
      record.registrations.append(
        try loop.watch(descriptor) {
          // Whichever is called first puts new, unsignalled files in the place of both.
          for registration in record.registrations { loop.cancel(registration) }
          let replaced = failure { () throws(LinuxError) in
            for number in try events.replaceAll() { try loop.watch(number) { record.lines.append("stale") } }
          }
          record.lines.append(replaced?.description ?? "replaced")
        })
    }
    events.signalAll()
    #expect(try loop.runOnce() == 1)
    #expect(try loop.runOnce(within: .zero) == 0)
    #expect(record.lines == ["replaced"])
  }

  @Test("a watched descriptor whose peer hung up is reported, whatever it is watched for")
  func hangUp() throws {
    let loop = try EventLoop()
    let pair = try UnixSocket.pair()
    let record = Record()
    let registration = try loop.watch(pair.first.descriptor.rawValue, for: []) { record.lines.append("hung up") }
    #expect(try loop.runOnce(within: .zero) == 0)
    pair.second.shutDown()
    #expect(try loop.runOnce() == 1)
    loop.cancel(registration)
    loop.cancel(registration)
    #expect(try loop.runOnce(within: .zero) == 0)
    #expect(record.lines == ["hung up"])
  }

  @Test("what a descriptor is watched for can change")
  func change() throws {
    let loop = try EventLoop()
    let pair = try UnixSocket.pair()
    let registration = try loop.watch(pair.first.descriptor.rawValue) {}
    #expect(try loop.runOnce(within: .zero) == 0)
    try loop.change(registration, to: [.readable, .writable])
    #expect(try loop.runOnce(within: .zero) == 1)
    let twice = failure { () throws(LinuxError) in try loop.watch(pair.first.descriptor.rawValue) {} }
    #expect(twice == LinuxError(call: "epoll_ctl", number: EEXIST))
  }

  @Test("a descriptor watched for changes is reported once for each, whatever is left to read")
  func onChange() throws {
    let loop = try EventLoop()
    let event = try Eventfd()
    let registration = try loop.watch(event.descriptor.rawValue, for: [.readable, .onChange]) {}
    event.signal()
    #expect(try loop.runOnce() == 1)
    #expect(try loop.runOnce(within: .zero) == 0)
    event.signal()
    #expect(try loop.runOnce(within: .zero) == 1)
    // To ask anew reports what is there.
    try loop.change(registration, to: [.readable, .onChange])
    #expect(try loop.runOnce(within: .zero) == 1)
    #expect(try loop.runOnce(within: .zero) == 0)
  }

  @Test("work posted from many threads runs here, each thread's in order, and stop comes after it")
  func posting() throws {
    let loop = try EventLoop()
    let record = Record()
    let inbox = try loop.inbox(of: [Int].self) { (message) in record.lines.append("\(message[0]) \(message[1])") }
    let poster = loop.poster
    let threadCount = 4
    let messageCount = 500
    let posters = try Thread(name: "posters") {
      let failed = failure { () throws(LinuxError) in try postFromThreads(threadCount, messageCount, to: inbox) }
      #expect(failed == nil)
      poster.stop()
    }
    try loop.run()
    posters.join()
    try loop.runOnce(within: .zero)
    #expect(record.lines.count == threadCount * messageCount)
    for number in 0..<threadCount {
      #expect(record.lines.filter { $0.hasPrefix("\(number) ") } == (0..<messageCount).map { "\(number) \($0)" })
    }
  }

  @Test("posted work runs on the loop's thread")
  func postedWork() throws {
    let loop = try EventLoop()
    let poster = loop.poster
    let here = pthread_self()
    let seen = Seen()
    let thread = try Thread(name: "poster") {
      poster.post { seen.thread.withLock { $0 = pthread_self() } }
      poster.stop()
    }
    try loop.run()
    thread.join()
    #expect(seen.thread.withLock { $0 } == here)
  }

  @Test("a loop that is gone takes no messages, and lets go of those that wait")
  func goneLoop() throws {
    final class Token: Sendable {}
    var loop: EventLoop? = try EventLoop()
    let poster = try #require(loop).poster
    weak var waiting: Token?
    do {
      let token = Token()
      waiting = token
      #expect(poster.post { withExtendedLifetime(token) {} })
    }
    #expect(waiting != nil)
    loop = nil
    #expect(waiting == nil)
    #expect(!poster.post {})
  }

  @Test("stop before run makes it return at once, and only once")
  func stopFirst() throws {
    let loop = try EventLoop()
    loop.stop()
    try loop.run()
    loop.poster.stop()
    try loop.run()
  }

  @Test("a one-shot timer expires once, a periodic one again and again, a stopped one never")
  func timers() throws {
    let loop = try EventLoop()
    let timer = try Timer()
    try loop.watch(timer.descriptor.rawValue) {}
    timer.start(after: .zero)
    #expect(try loop.runOnce() == 1)
    #expect(timer.drain() == 1)
    #expect(try loop.runOnce(within: .zero) == 0)

    timer.start(every: .microseconds(100))
    for _ in 0..<3 {
      #expect(try loop.runOnce() == 1)
      #expect(timer.drain() >= 1)
    }
    try #require(try loop.runOnce() == 1)
    timer.stop()
    #expect(timer.drain() == 0)
    #expect(try loop.runOnce(within: .zero) == 0)
    timer.start(after: .seconds(Int64.max))
    #expect(try loop.runOnce(within: .zero) == 0)
  }

  @Test("a wait for events ends with its limit, and the clock agrees")
  func limit() throws {
    let loop = try EventLoop()
    let start = MonotonicClock.now
    #expect(try loop.runOnce(within: .milliseconds(2)) == 0)
    #expect(MonotonicClock.now - start >= 2_000_000)
  }

  @Test("a blocked signal is read, not delivered, and waits its turn")
  func signals() throws {
    let signals = try SignalDescriptor([SIGUSR1])
    #expect(signals.next() == nil)
    pthread_kill(pthread_self(), SIGUSR1)
    #expect(signals.next() == SIGUSR1)
    #expect(signals.next() == nil)
    #expect(failure { () throws(LinuxError) in _ = try SignalDescriptor([999]) }?.number == EINVAL)
  }
}

private final class Seen: Sendable {
  let thread = Mutex<pthread_t>(0)
}

private func postFromThreads(_ count: Int, _ messageCount: Int, to inbox: Inbox<[Int]>) throws(LinuxError) {
  guard count > 0 else { return }
  let thread = try Thread(name: "poster") {
    for index in 0..<messageCount { inbox.post([count - 1, index]) }
  }
  try postFromThreads(count - 1, messageCount, to: inbox)
  thread.join()
}

/// Some eventfds that can be replaced by new ones with the same numbers.
private final class Events {
  private var numbers: [Int32] = []

  func make(count: Int) throws(LinuxError) -> [Int32] {
    for _ in 0..<count { numbers.append(try Eventfd().descriptor.duplicate().release()) }
    return numbers
  }

  func signalAll() {
    for number in numbers {
      var one: UInt64 = 1
      unsafe write(number, &one, 8)
    }
  }

  func replaceAll() throws(LinuxError) -> [Int32] {
    for number in numbers {
      let fresh = try Eventfd()
      dup2(fresh.descriptor.rawValue, number)
    }
    return numbers
  }

  deinit {
    for number in numbers { close(number) }
  }
}
