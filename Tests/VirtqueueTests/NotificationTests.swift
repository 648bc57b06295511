import GuestRAM
import Support
import Testing
import Virtqueue

@Suite("Virtqueue: notifications")
struct NotificationTests {
  static let eventIndex = RingFeatures(eventIndex: true)

  /// Makes so many chains available, all of descriptor 0, and has the device use and publish them.
  static func use(_ count: UInt16, _ fixture: inout RingFixture, _ queue: inout SplitVirtqueue) throws {
    for _ in 0..<count { try fixture.offer(head: 0) }
    try fixture.publish()
    #expect(try queue.serveTurn().count == Int(count))
  }

  @Test("2.7.7.2: without EVENT_IDX the driver's flag decides, and used_event means nothing")
  func interruptFlag() throws {
    var fixture = try RingFixture(size: 8)
    var queue = try fixture.queue()
    try fixture.setUsedEvent(100)
    for areUnwanted in [false, true, true, false] {
      try fixture.setInterruptsUnwanted(areUnwanted)
      try Self.use(3, &fixture, &queue)
      #expect(try queue.notifies() == !areUnwanted)
    }
  }

  @Test("2.7.7.2: with EVENT_IDX the driver's flag means nothing")
  func interruptFlagIgnored() throws {
    var fixture = try RingFixture(size: 8)
    var queue = try fixture.queue(Self.eventIndex)
    _ = queue.needsNotification()
    try fixture.setInterruptsUnwanted(true)
    try fixture.setUsedEvent(0)
    try Self.use(1, &fixture, &queue)
    #expect(try queue.notifies())
  }

  @Test("2.7.7.2: with EVENT_IDX the driver is told when the index passes used_event, at every distance and wrap")
  func window() throws {
    var fixture = try RingFixture(size: 8, index: 65500)
    var queue = try fixture.queue(Self.eventIndex)
    _ = queue.needsNotification()
    var wrong = 0
    for distance in UInt16.min...UInt16.max {
      let old = queue.nextUsed
      let count = distance % 8 + 1
      let event = old &+ distance
      try fixture.setUsedEvent(event)
      for _ in 0..<count { try fixture.offer(head: 0) }
      try fixture.publish()
      _ = try queue.serveTurn()
      let isPassed = (0..<count).contains { old &+ $0 == event }
      if try queue.notifies() != isPassed { wrong += 1 }
    }
    #expect(wrong == 0)
  }

  @Test("2.7.7.2: what was published since the last question counts, in however many batches")
  func severalBatches() throws {
    var fixture = try RingFixture(size: 8, index: 65534)
    var queue = try fixture.queue(Self.eventIndex)
    _ = queue.needsNotification()
    try fixture.setUsedEvent(65535)
    for _ in 0..<3 { try Self.use(2, &fixture, &queue) }
    #expect(try queue.notifies())
    #expect(try queue.notifies() == false)
  }

  @Test("2.7.7.2: nothing is to be told before it is published", arguments: [RingFeatures(), eventIndex])
  func unpublished(features: RingFeatures) throws {
    var fixture = try RingFixture(size: 8)
    var queue = try fixture.queue(features)
    _ = queue.needsNotification()
    try fixture.send([.writable(0, 1)])
    #expect(try queue.serveOne() != nil)
    #expect(try queue.notifies() == false)
    queue.publish()
    #expect(try queue.notifies())
  }

  @Test("2.7.7: the first answer after a start is yes: nobody knows what an earlier device told the driver")
  func firstAfterRestore() throws {
    for index in [0, 5, 65535] as [UInt16] {
      var fixture = try RingFixture(size: 8, index: index)
      try fixture.setUsedEvent(index &+ 1000)
      var queue = try fixture.queue(Self.eventIndex)
      try Self.use(1, &fixture, &queue)
      #expect(try queue.notifies())
      try Self.use(1, &fixture, &queue)
      #expect(try queue.notifies() == false)
      var restored = try fixture.queue(Self.eventIndex)
      #expect(try restored.notifies())
      #expect(try restored.notifies() == false)
    }
  }

  @Test("2.7.10: without EVENT_IDX the used ring's flag says whether kicks are wanted")
  func kickFlag() throws {
    let fixture = try RingFixture(size: 8)
    var queue = try fixture.queue()
    #expect(try fixture.usedFlags == 0)
    queue.suppressKicks()
    #expect(try fixture.usedFlags == 1)
    #expect(try queue.requestKicks() == false)
    #expect(try fixture.usedFlags == 0)
    #expect(try fixture.wantsKick(since: 0, eventIndex: false))
  }

  @Test("2.7.10: a queue that goes on where another stopped asks for kicks although that one had suppressed them")
  func kickFlagLeftBehind() throws {
    let fixture = try RingFixture(size: 8)
    var stopped = try fixture.queue()
    stopped.suppressKicks()
    var queue = try fixture.queue()
    #expect(try queue.requestKicks() == false)
    #expect(try fixture.usedFlags == 0)
  }

  @Test("2.7.10.2: with EVENT_IDX the flags stay 0 and avail_event names the entry that a kick is wanted for")
  func availableEvent() throws {
    var fixture = try RingFixture(size: 8, index: 65534)
    var queue = try fixture.queue(Self.eventIndex)
    for _ in 0..<10 {
      queue.suppressKicks()
      try Self.use(3, &fixture, &queue)
      #expect(try queue.requestKicks() == false)
      #expect(try fixture.usedFlags == 0)
      #expect(try fixture.availableEvent == fixture.availableIndex)
      let old = fixture.availableIndex
      try fixture.offer(head: 0)
      #expect(try fixture.wantsKick(since: old, eventIndex: true))
      try fixture.publish()
      #expect(try queue.serveTurn().count == 1)
    }
  }

  @Test("2.7.10: while kicks are not asked for, none is wanted", arguments: [false, true])
  func noKicks(eventIndex: Bool) throws {
    var fixture = try RingFixture(size: 8)
    var queue = try fixture.queue(RingFeatures(eventIndex: eventIndex))
    #expect(try queue.requestKicks() == false)
    for round in 0..<20 {
      let old = fixture.availableIndex
      queue.suppressKicks()
      try fixture.offer(head: 0)
      if round > 0 { #expect(try fixture.wantsKick(since: old, eventIndex: eventIndex) == false) }
      try fixture.publish()
      #expect(try queue.serveTurn().count == 1)
    }
  }

  @Test("2.7.10: a buffer that comes between the last look and the request is reported", arguments: [false, true])
  func race(eventIndex: Bool) throws {
    var fixture = try RingFixture(size: 8)
    var queue = try fixture.queue(RingFeatures(eventIndex: eventIndex))
    queue.suppressKicks()
    #expect(try queue.serveOne() == nil)
    try fixture.send([.readable(0, 1)])
    #expect(try queue.requestKicks())
    #expect(try queue.serveTurn().count == 1)
    #expect(try queue.requestKicks() == false)
  }

  @Test("2.7.10: a chain put back is not reported as new, though one behind it is", arguments: [false, true])
  func putBackIsNotNews(eventIndex: Bool) throws {
    var fixture = try RingFixture(size: 8)
    var queue = try fixture.queue(RingFeatures(eventIndex: eventIndex))
    try fixture.send([.readable(0, 1)])
    queue.putBack(try queue.take())
    #expect(try queue.requestKicks() == false)
    let old = fixture.availableIndex
    try fixture.send([.readable(0, 1)])
    #expect(try fixture.wantsKick(since: old, eventIndex: eventIndex))
    #expect(try queue.requestKicks())
    #expect(try queue.serveTurn().count == 2)
  }
}
