import LinuxIO
import Testing

@testable import virtiokit

@Suite("virtiokit migrate: slowing a guest down") struct QemuThrottleTests {
  private static func wait(until isDone: () -> Bool) {
    let deadline = MonotonicClock.moment(after: .seconds(30))
    while !isDone(), MonotonicClock.now < deadline {}
  }

  @Test("a guest is stopped again and again, and runs when that is over")
  func throttled() throws {
    let qemu = try FakeQemu(waits: false)
    let throttle = try QemuThrottle(QemuMachine(QmpConnection(path: qemu.server.path)), share: 0.5)
    throttle.set(0.1)
    Self.wait { qemu.state.value.calls.count(where: { $0 == "stop" }) >= 3 }
    #expect(throttle.end() == nil)
    let calls = qemu.state.value.calls.filter { $0 == "stop" || $0 == "cont" }
    #expect(calls.count >= 6 && calls.count % 2 == 0)
    #expect(calls.enumerated().allSatisfy { $0.element == ($0.offset % 2 == 0 ? "stop" : "cont") })
    #expect(qemu.state.value.status == "running")
  }

  @Test("a QEMU that goes away meanwhile is told at the end, and nobody waits for ever")
  func gone() throws {
    let server = try ScriptedQmp { $0.command == "stop" ? [.close] : [$0.answer()] }
    let throttle = try QemuThrottle(QemuMachine(QmpConnection(path: server.path)), share: 0.01)
    Self.wait { throttle.failure != nil }
    #expect(throttle.end() == .gone(command: "stop"))
  }
}
