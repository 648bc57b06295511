import Balloon
import GuestRAM
import Support
import Testing
import VirtioCore
import Virtqueue

@Suite("Balloon: statistics") struct StatisticsTests {
  private typealias Guest = BalloonGuest<Recorder>

  private func guest(_ clock: TestClock = TestClock(), accepting: UInt64 = Bit.all) throws -> Guest {
    try Guest(reclaimer: Recorder(), accepting: accepting, clock: clock)
  }

  @Test("5.5.6.4: the tags are these")
  func tags() {
    #expect(BalloonStatistic.allCases.map(\.rawValue) == Array(0...15))
    let byName: [(BalloonStatistic, UInt16)] = [
      (.swapIn, 0), (.swapOut, 1), (.majorFaults, 2), (.minorFaults, 3), (.freeMemory, 4), (.totalMemory, 5),
      (.availableMemory, 6), (.diskCaches, 7), (.hugePageAllocations, 8), (.hugePageFailures, 9),
      (.outOfMemoryKills, 10), (.allocationStalls, 11), (.backgroundScan, 12), (.directScan, 13),
      (.backgroundReclaim, 14), (.directReclaim, 15),
    ]
    #expect(byName.allSatisfy { $0.rawValue == $1 })
    #expect(BalloonStatistic.allCases.filter { !$0.isByteCount }.map(\.rawValue) == [2, 3, 8, 9, 10, 11])
  }

  @Test("5.5.6.3: a buffer is read and kept, in entries of ten bytes and any order")
  func report() throws {
    let guest = try guest()
    let used = try guest.send(statistics: (0...15).reversed().map { (UInt16($0), UInt64($0) << 40 | 7) })
    #expect(used == nil)
    for statistic in BalloonStatistic.allCases {
      #expect(guest.host.device.reading(of: statistic) == .fresh(UInt64(statistic.rawValue) << 40 | 7, age: 0))
    }
    #expect(guest.notifications.all.isEmpty)
  }

  @Test("5.5.6.3: unknown tags are ignored, and the last of two values counts")
  func unknown() throws {
    let guest = try guest()
    try guest.send(statistics: [(16, 1), (65_535, 2), (4, 3), (65_534, 4), (4, 5)])
    #expect(guest.host.device.reading(of: .freeMemory) == .fresh(5, age: 0))
    #expect(BalloonStatistic.allCases.filter { guest.host.device.reading(of: $0) != .neverReported } == [.freeMemory])
  }

  @Test("5.5.6.3: an entry that is cut off is left alone", arguments: [0, 1, 9, 11, 19])
  func cutOff(count: Int) throws {
    let guest = try guest()
    let entries: [UInt8] = [4, 0, 1, 0, 0, 0, 0, 0, 0, 0, 5, 0, 2, 0, 0, 0, 0, 0, 0, 0]
    try guest.send(bytes: Array(entries.prefix(count)), to: Guest.statistics)
    #expect(guest.host.device.reading(of: .freeMemory) == (count < 10 ? .neverReported : .fresh(1, age: 0)))
    #expect(guest.host.device.reading(of: .totalMemory) == .neverReported)
    #expect(guest.host.failure == nil)
  }

  @Test("5.5.6.3: the buffer comes back with length 0 when new values are asked for, and not before")
  func refresh() throws {
    let guest = try guest()
    try guest.send(statistics: [(4, 1)])
    guest.host.wake()
    guest.host.kick(Guest.statistics)
    #expect(try guest.rings[Guest.statistics]?.takeUsed() == nil)

    guest.host.update { $0.requestStatistics() }
    guest.host.wake()
    #expect(try guest.rings[Guest.statistics]?.takeUsed()?.byteCount == 0)
    #expect(guest.notifications.all == [.queue(Guest.statistics)])
    guest.host.wake()
    #expect(try guest.rings[Guest.statistics]?.takeUsed() == nil)

    guest.clock.now += 5
    try guest.send(statistics: [(4, 2)])
    #expect(guest.host.device.reading(of: .freeMemory) == .fresh(2, age: 0))
  }

  @Test("a request made while the driver is at work is met by what it sends")
  func requestInBetween() throws {
    let guest = try guest()
    guest.host.update { $0.requestStatistics() }
    guest.host.wake()
    try guest.send(statistics: [(4, 1)])
    guest.host.wake()
    #expect(try guest.rings[Guest.statistics]?.takeUsed() == nil)
  }

  @Test("never reported, stale and fresh are three answers")
  func ages() throws {
    let guest = try guest()
    #expect(guest.host.device.reading(of: .freeMemory, freshFor: 100) == .neverReported)
    try guest.send(statistics: [(4, 1)])
    guest.clock.now += 100
    #expect(guest.host.device.reading(of: .freeMemory, freshFor: 100) == .fresh(1, age: 100))
    guest.clock.now += 1
    #expect(guest.host.device.reading(of: .freeMemory, freshFor: 100) == .stale(1, age: 101))
    #expect(guest.host.device.reading(of: .swapIn, freshFor: 100) == .neverReported)
  }

  @Test("a tag that the driver no longer sends keeps the time of its own report")
  func ownTime() throws {
    let guest = try guest()
    try guest.send(statistics: [(4, 1), (5, 1)])
    guest.clock.now += 100
    guest.host.update { $0.requestStatistics() }
    guest.host.wake()
    _ = try guest.rings[Guest.statistics]?.takeUsed()
    try guest.send(statistics: [(5, 2)])
    #expect(guest.host.device.reading(of: .freeMemory, freshFor: 50) == .stale(1, age: 100))
    #expect(guest.host.device.reading(of: .totalMemory, freshFor: 50) == .fresh(2, age: 0))
  }

  @Test("a value is fresh for two poll intervals, or ten seconds without polling")
  func defaultFreshness() throws {
    let guest = try guest()
    try guest.send(statistics: [(4, 1)])
    guest.clock.now += 10_000_000_000
    #expect(guest.host.device.reading(of: .freeMemory) == .fresh(1, age: 10_000_000_000))
    guest.host.update { $0.pollStatistics(every: 4_999_999_999) }
    #expect(guest.host.device.reading(of: .freeMemory) == .stale(1, age: 10_000_000_000))
    guest.host.update { $0.pollStatistics(every: .max) }
    #expect(guest.host.device.reading(of: .freeMemory) == .fresh(1, age: 10_000_000_000))
  }

  @Test("polling asks when the interval since the last report is over")
  func polling() throws {
    let guest = try guest()
    guest.host.update { $0.pollStatistics(every: 2_000_000_000) }
    #expect(guest.host.device.timeToNextPoll == nil)
    try guest.send(statistics: [(4, 1)])
    #expect(guest.host.device.timeToNextPoll == 2_000_000_000)
    guest.clock.now += 1_999_999_999
    guest.host.wake()
    #expect(try guest.rings[Guest.statistics]?.takeUsed() == nil)
    guest.clock.now += 1
    #expect(guest.host.device.timeToNextPoll == 0)
    guest.host.wake()
    #expect(try guest.rings[Guest.statistics]?.takeUsed() != nil)
    #expect(guest.host.device.timeToNextPoll == nil)
    guest.host.update { $0.pollStatistics(every: nil) }
    try guest.send(statistics: [(4, 1)])
    guest.clock.now += 1 << 40
    guest.host.wake()
    #expect(try guest.rings[Guest.statistics]?.takeUsed() == nil)
  }

  @Test("polling without a pause is not to be had")
  func leastInterval() throws {
    let guest = try guest()
    guest.host.update { $0.pollStatistics(every: 0) }
    try guest.send(statistics: [(4, 1)])
    #expect(guest.host.device.timeToNextPoll == 1_000_000)
  }

  @Test("5.5.6.3: a second buffer, which no driver may send, waits its turn")
  func secondBuffer() throws {
    let guest = try guest()
    try guest.send(statistics: [(4, 1)])
    try guest.send(statistics: [(4, 2)])
    #expect(guest.host.device.reading(of: .freeMemory) == .fresh(1, age: 0))
    guest.host.update { $0.requestStatistics() }
    guest.host.wake()
    #expect(try guest.rings[Guest.statistics]?.takeAllUsed().count == 1)
    #expect(guest.host.device.reading(of: .freeMemory) == .fresh(2, age: 0))
  }

  @Test("5.5.6.3: a driver older than version 1 sends a first buffer that means nothing")
  func legacy() throws {
    let guest = try Guest(reclaimer: Recorder())
    guest.host.reset()
    try guest.host.acceptFeatures(Features(low: Bit.statistics))
    let ring = try #require(guest.rings[Guest.statistics])
    try guest.host.startQueue(Guest.statistics, ring.configuration())
    try guest.send(statistics: [(4, 0xDEAD)])
    #expect(guest.host.device.reading(of: .freeMemory) == .neverReported)
    guest.host.update { $0.requestStatistics() }
    guest.host.wake()
    _ = try guest.rings[Guest.statistics]?.takeUsed()
    try guest.send(statistics: [(4, 1)])
    #expect(guest.host.device.reading(of: .freeMemory) == .fresh(1, age: 0))
  }

  @Test("a buffer of endless entries is read no further than any driver writes")
  func endless() throws {
    let guest = try guest()
    let page = try guest.store([UInt8](repeating: 0, count: 4090) + [0, 0])
    // 1024 entries of 0, and then one that would say 1.
    let last = try guest.store([4, 0, 1, 0, 0, 0, 0, 0, 0, 0])
    try guest.send(
      [.readable(page, 4090), .readable(page, 4090), .readable(page, 2060), .readable(last, 10)], to: Guest.statistics)
    #expect(guest.host.device.reading(of: .swapIn) == .fresh(0, age: 0))
    #expect(guest.host.device.reading(of: .freeMemory) == .neverReported)
  }

  @Test("2.6.1: a queue that is reset takes its buffer with it, and the next one is read")
  func queueReset() throws {
    let guest = try guest()
    try guest.send(statistics: [(4, 1)])
    try guest.host.resetQueue(Guest.statistics)
    let ring = try #require(guest.rings[Guest.statistics])
    try guest.host.startQueue(Guest.statistics, ring.configuration(nextAvailable: 0))
    guest.host.kick(Guest.statistics)
    #expect(guest.host.device.state.statisticsHeld)
  }

  @Test("the clock of another host may have started later than the report")
  func youngClock() throws {
    let guest = try guest()
    try guest.send(statistics: [(4, 1)])
    guest.clock.now += 500
    try guest.move(to: Recorder(), after: 5 &- guest.clock.now)
    #expect(guest.clock.now == 5)
    guest.clock.now += 10
    #expect(guest.host.device.reading(of: .freeMemory, freshFor: 1000) == .fresh(1, age: 510))
    #expect(guest.host.device.reading(of: .freeMemory, freshFor: 500) == .stale(1, age: 510))
    #expect(guest.host.device.reading(of: .swapIn) == .neverReported)
  }
}
