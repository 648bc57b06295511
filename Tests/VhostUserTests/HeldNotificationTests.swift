import LinuxIO
import Testing
import VhostUser
import VirtioCore

/// Calls of a device that is to keep them back for a while.
@Suite("VhostUser: held notifications") struct HeldNotificationTests {
  private static let hour: UInt32 = 3_600_000_000

  private func serve(_ frontend: Frontend, _ driver: GuestDriver, _ limits: NotificationLimits?) throws {
    try frontend.negotiate()
    try driver.setUp(frontend)
    try frontend.send(Wire.setVringEnable, words(0, 1))
    try driver.kickDevice(frontend)
    _ = try driver.calls()
    frontend.device.update { $0.limits = limits }
  }

  private func request(_ count: Int, _ frontend: Frontend, _ driver: GuestDriver) throws {
    for number in 0..<count {
      try driver.offer([UInt8(number)])
      try driver.kickDevice(frontend)
    }
  }

  @Test("so many requests are one call, and without a limit each has its own")
  func count() throws {
    let frontend = try Frontend()
    let driver = try GuestDriver()
    try serve(frontend, driver, nil)
    for _ in 0..<2 {
      try request(1, frontend, driver)
      #expect(try driver.calls() > 0)
    }
    frontend.device.update { $0.limits = NotificationLimits(bufferCount: 4, microseconds: Self.hour) }
    for _ in 0..<3 {
      try request(3, frontend, driver)
      #expect(try driver.calls() == 0)
      try request(1, frontend, driver)
      #expect(try driver.calls() > 0)
    }
    #expect(try driver.usedIndex() == 14)
  }

  @Test("the call comes by itself when the time is up")
  func time() throws {
    let frontend = try Frontend()
    let driver = try GuestDriver()
    try serve(frontend, driver, NotificationLimits(bufferCount: 4, microseconds: 2000))
    for _ in 0..<3 {
      try request(1, frontend, driver)
      #expect(try driver.call.first.waitUntilReadable(within: .zero) || frontend.loop.runOnce() > 0)
      #expect(try driver.calls() > 0)
    }
  }

  @Test("a ring that is stopped or disabled owes no call", arguments: [true, false])
  func stopped(isDisabled: Bool) throws {
    let frontend = try Frontend()
    let driver = try GuestDriver()
    try serve(frontend, driver, NotificationLimits(bufferCount: 4, microseconds: Self.hour))
    try request(3, frontend, driver)
    #expect(try driver.calls() == 0)
    if isDisabled {
      try frontend.send(Wire.setVringEnable, words(0, 0))
    } else {
      try frontend.send(Wire.getVringBase, words(0, 0))
    }
    #expect(try driver.calls() > 0)
  }
}
