import GuestRAM
import Support
import Testing
import VirtioCore

@Suite("Polling queues")
struct PollingTests {
  private static func bench(eventIndex: Bool) throws -> DeviceBench<EchoDevice> {
    var bench = try DeviceBench(EchoDevice())
    try bench.start(eventIndex ? [.version1, .eventIndex] : [.version1])
    bench.host.isPolled = true
    try bench.send([1])
    bench.host.kick(0)
    return bench
  }

  @Test("2.7.10: no kick is asked for while the queue is polled, and each buffer is found", arguments: [false, true])
  func polled(eventIndex: Bool) throws {
    var bench = try Self.bench(eventIndex: eventIndex)
    #expect(try bench.rings[0].publishedUsedIndex == 1)
    for count: UInt16 in 2...20 {
      let old = bench.rings[0].availableIndex
      let answer = try bench.send([UInt8(count)])
      #expect(try !bench.rings[0].wantsKick(since: old, eventIndex: eventIndex))
      #expect(bench.host.poll() == true)
      #expect(try bench.rings[0].publishedUsedIndex == count)
      #expect(try bench.memory.read(UInt8.self, at: answer) == UInt8(count))
      #expect(bench.host.poll() == false)
      _ = try bench.rings[0].takeAllUsed()
    }
  }

  @Test("2.7.10: once polling ends, the next buffer is worth a kick", arguments: [false, true])
  func rested(eventIndex: Bool) throws {
    var bench = try Self.bench(eventIndex: eventIndex)
    #expect(bench.host.rest() == false)
    #expect(bench.host.isPolled == false)
    for _ in 0..<3 {
      let old = bench.rings[0].availableIndex
      try bench.send([1])
      #expect(try bench.rings[0].wantsKick(since: old, eventIndex: eventIndex))
      bench.host.kick(0)
    }
    #expect(try bench.rings[0].publishedUsedIndex == 4)
  }

  @Test(
    "2.7.10: what came before kicks were asked for again is served, though nobody kicked", arguments: [false, true])
  func between(eventIndex: Bool) throws {
    var bench = try Self.bench(eventIndex: eventIndex)
    let old = bench.rings[0].availableIndex
    try bench.send([2])
    #expect(try !bench.rings[0].wantsKick(since: old, eventIndex: eventIndex))
    #expect(bench.host.rest() == false)
    #expect(try bench.rings[0].publishedUsedIndex == 2)
    let later = bench.rings[0].availableIndex
    try bench.send([3])
    #expect(try bench.rings[0].wantsKick(since: later, eventIndex: eventIndex))
  }

  @Test("2.7.7: a polled driver is told of its answers as any other", arguments: [false, true])
  func notified(eventIndex: Bool) throws {
    var bench = try Self.bench(eventIndex: eventIndex)
    bench.notifications.all = []
    if eventIndex { try bench.rings[0].setUsedEvent(1) }
    try bench.send([2])
    #expect(bench.host.poll() == true)
    #expect(bench.notifications.take() == [.queue(0)])
  }

  @Test("another map of memory forgets no queue that is to be asked for kicks", arguments: [false, true])
  func attached(eventIndex: Bool) throws {
    var bench = try Self.bench(eventIndex: eventIndex)
    try bench.host.attach(bench.memory)
    #expect(bench.host.rest() == false)
    let old = bench.rings[0].availableIndex
    try bench.send([2])
    #expect(try bench.rings[0].wantsKick(since: old, eventIndex: eventIndex))
  }

  @Test("a device that is not served is not polled: before it starts, paused, disabled, without queues")
  func notServed() throws {
    var new = try DeviceBench(EchoDevice())
    #expect(new.host.poll() == false)
    #expect(new.host.rest() == false)
    var bench = try Self.bench(eventIndex: false)
    try bench.send([2])
    bench.host.pause()
    #expect(bench.host.poll() == false)
    #expect(try bench.rings[0].publishedUsedIndex == 1)
    bench.host.resume()
    #expect(try bench.rings[0].publishedUsedIndex == 2)
    try bench.host.setEnabled(0, false)
    try bench.send([3])
    #expect(bench.host.poll() == false)
    try bench.host.setEnabled(0, true)
    #expect(try bench.rings[0].publishedUsedIndex == 3)
    try bench.host.resetQueue(0)
    try bench.host.resetQueue(1)
    #expect(bench.host.poll() == false)
  }

  @Test("a ring that breaks while it is polled breaks the device, once", arguments: [false, true])
  func broken(byRest: Bool) throws {
    var bench = try Self.bench(eventIndex: false)
    bench.notifications.all = []
    try bench.rings[0].publish(index: 0x8000)
    if byRest { #expect(bench.host.rest() == false) } else { #expect(bench.host.poll() == false) }
    #expect(bench.host.isBroken == true)
    #expect(bench.notifications.take().count == 2)
    #expect(bench.host.poll() == false)
    #expect(bench.host.rest() == false)
    #expect(bench.notifications.take() == [])
  }
}
