import Testing

@testable import LinuxIO

/// What a loop did before and while it slept.
private final class Record {
  var lookCount = 0
  var restCount = 0
  var handlerCount = 0
}

@Suite("EventLoop: looking for work") struct EventLoopPollingTests {
  private static let ages: Duration = .seconds(1000)

  @Test("patience doubles with each short sleep up to its limit, and a long one ends it")
  func patience() {
    var polling = Polling(limit: 1_000_000_000_000, watchers: [])
    #expect(polling.patience == 0)
    polling.slept(since: MonotonicClock.now)
    let first = polling.patience
    #expect(first > 0)
    for step in 1..<5 {
      polling.slept(since: MonotonicClock.now)
      #expect(polling.patience == first << UInt64(step))
    }
    for _ in 0..<60 { polling.slept(since: MonotonicClock.now) }
    #expect(polling.patience == polling.limit)
    var short = Polling(limit: 1, watchers: [], patience: 1)
    short.slept(since: MonotonicClock.now - 2)
    #expect(short.patience == 0)
  }

  @Test("all who look are asked each time, though the first has found something")
  func manyLook() {
    let record = Record()
    let watcher = { (found: Bool) in
      Polling.Watcher {
        record.lookCount += 1
        return found
      } rest: {
        record.restCount += 1
      }
    }
    let polling = Polling(limit: 1, watchers: [watcher(true), watcher(false)])
    #expect(polling.look())
    #expect(record.lookCount == 2)
    polling.rest()
    #expect(record.restCount == 2)
  }

  @Test("a loop that has only slept long looks for nothing, and says each time that it has to be woken")
  func sleeping() throws {
    let loop = try EventLoop()
    let event = try Eventfd()
    let record = Record()
    // No sleep is shorter than this.
    loop.poll(atMost: .nanoseconds(1)) {
      record.lookCount += 1
      return false
    } beforeSleeping: {
      record.restCount += 1
    }
    try loop.watch(event.descriptor.rawValue) {
      record.handlerCount += 1
      if record.handlerCount == 5 { loop.stop() }
    }
    event.signal()
    try loop.run()
    #expect(record.lookCount == 0)
    #expect(record.restCount == 5)
    #expect(loop.isAboutToPoll == false)
  }

  @Test("a loop whose sleeps are short looks before each next one, in vain not for ever")
  func looking() throws {
    let loop = try EventLoop()
    let event = try Eventfd()
    let record = Record()
    var counts: [Int] = []
    loop.poll(atMost: Self.ages) {
      record.lookCount += 1
      return false
    } beforeSleeping: {
      record.restCount += 1
      counts.append(record.lookCount)
    }
    try loop.watch(event.descriptor.rawValue) {
      #expect(loop.isAboutToPoll)
      record.handlerCount += 1
      if record.handlerCount == 5 { loop.stop() }
    }
    event.signal()
    try loop.run()
    #expect(record.restCount == 5)
    #expect(counts.first == 0)
    #expect(zip(counts, counts.dropFirst()).allSatisfy { $0 < $1 })
  }

  @Test("work that never ends keeps the loop neither from its descriptors nor makes it sleep")
  func busy() throws {
    let loop = try EventLoop()
    let event = try Eventfd()
    let record = Record()
    loop.poll(atMost: Self.ages) {
      record.lookCount += 1
      return true
    } beforeSleeping: {
      record.restCount += 1
    }
    try loop.watch(event.descriptor.rawValue) {
      record.handlerCount += 1
      if record.handlerCount == 3 { loop.stop() }
    }
    event.signal()
    try loop.run()
    #expect(record.handlerCount == 3)
    #expect(record.lookCount > 1)
    #expect(record.restCount == 1)
  }

  @Test("a limit of nothing is no polling at all")
  func none() throws {
    let loop = try EventLoop()
    loop.poll(atMost: .zero) {
      true
    } beforeSleeping: {
    }
    #expect(loop.isAboutToPoll == false)
    loop.poster.stop()
    try loop.run()
    #expect(loop.isAboutToPoll == false)
  }
}
