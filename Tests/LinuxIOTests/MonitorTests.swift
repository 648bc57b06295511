import LinuxIO
import Testing

@Suite("Monitor") struct MonitorTests {
  @Test("changes made under the lock are never lost")
  func lock() throws {
    let monitor = Monitor(0)
    try withThreads(4) { _ in
      for _ in 0..<2000 { monitor.withLock { $0 += 1 } }
    }
    #expect(monitor.withLock { $0 } == 8000)
  }

  @Test("whoever waits sees what it was woken for")
  func wake() throws {
    let monitor = Monitor(0)
    let (even, odd) = (WakeUp(), WakeUp())
    try withThreads(2) { (index) in
      for _ in 0..<500 {
        let isMine = monitor.wait(on: index == 0 ? even : odd) { (turn) in
          guard turn % 2 == index else { return nil as Bool? }
          turn += 1
          return true
        }
        #expect(isMine == true)
        (index == 0 ? odd : even).wakeAll()
      }
    }
    #expect(monitor.withLock { $0 } == 1000)
  }

  @Test("a wait ends at its moment without a result")
  func limit() {
    let monitor = Monitor(0)
    let moment = MonotonicClock.moment(after: .milliseconds(2))
    #expect(monitor.wait(on: WakeUp(), until: moment) { _ in nil as Int? } == nil)
    #expect(MonotonicClock.now >= moment)
    #expect(MonotonicClock.timeLeft(until: moment) == .zero)
  }

  @Test("what an attempt throws goes to whoever waits, and the lock is free again")
  func failure() {
    let monitor = Monitor(0)
    #expect(throws: LinuxError(call: "attempt", number: 1)) {
      _ = try monitor.wait(on: WakeUp()) { (_) throws(LinuxError) -> Int? in
        throw LinuxError(call: "attempt", number: 1)
      }
    }
    #expect(monitor.withLock { $0 } == 0)
  }
}
