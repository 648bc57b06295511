import DeviceState
import LinuxIO
import Testing
import VhostUser
import VirtioCore

@Suite("VhostUser: a device that is stopped, and its state elsewhere") struct SuspendTests {
  /// A front-end whose device has echoed one chain of three bytes.
  private func running(_ driver: GuestDriver) throws -> Frontend {
    let frontend = try Frontend()
    try frontend.negotiate()
    try start(frontend, driver, base: 0)
    try driver.offer([1, 2, 3])
    try driver.kickDevice(frontend)
    #expect(echoed(frontend) == 3)
    return frontend
  }

  /// What QEMU sends when a guest starts or goes on.
  private func start(_ frontend: Frontend, _ driver: GuestDriver, base: UInt32) throws {
    try frontend.send(Wire.setFeatures, number(Wire.version1 | Wire.protocolFeatures))
    try driver.setUp(frontend, base: base)
    try frontend.send(Wire.setVringEnable, words(0, 1))
    try frontend.send(Wire.setStatus, number(7))
    try driver.kickDevice(frontend)
  }

  /// What QEMU sends when a guest pauses, and when its driver goes.
  private func stop(_ frontend: Frontend) throws {
    #expect(try frontend.ask(Wire.getVringBase, words(0, 0)) == words(0, 1))
    try frontend.send(Wire.setStatus, number(0))
    #expect(try frontend.ask(Wire.getStatus).number == 0)
  }

  private func echoed(_ frontend: Frontend) -> UInt64 {
    frontend.device.update { $0.state.echoed }
  }

  private func state(_ echoed: UInt64) throws -> [UInt8] {
    var snapshot = Snapshot()
    try snapshot.add(EchoDevice.State(echoed: echoed))
    return snapshot.encoded()
  }

  /// Sends a state and gives back what the back-end thinks of it.
  private func load(_ bytes: [UInt8], _ frontend: Frontend) throws -> UInt64 {
    do {
      let pipe = try FileDescriptor.pipe()
      let answer = try frontend.ask(
        Wire.setDeviceStateFd, words(1, 0), descriptors: [pipe.reading.rawValue])
      #expect(answer == number(0x100))
      for start in stride(from: 0, to: bytes.count, by: 4096) {
        try pipe.writing.writeAll(Array(bytes[start..<min(start + 4096, bytes.count)]))
        try frontend.pump()
      }
    }
    return try frontend.ask(Wire.checkDeviceState).number
  }

  @Test("a guest that pauses and goes on finds its device as it was, status 0 or not")
  func pause() throws {
    let driver = try GuestDriver()
    let frontend = try running(driver)
    try stop(frontend)
    #expect(echoed(frontend) == 3)
    try start(frontend, driver, base: 1)
    try driver.offer([4])
    try driver.kickDevice(frontend)
    #expect(echoed(frontend) == 4)
    #expect(frontend.device.update { $0.startCount } == 1)
  }

  @Test("another driver, whose ring starts elsewhere, finds a device that was reset")
  func otherDriver() throws {
    let frontend = try running(GuestDriver())
    try stop(frontend)
    let second = try GuestDriver()
    try second.offer([9])
    try start(frontend, second, base: 0)
    #expect(try second.answer(0, byteCount: 1) == [10])
    #expect(echoed(frontend) == 1)
    #expect(frontend.device.update { $0.startCount } == 2)
  }

  @Test("status 0 before the rings are asked for their bases, as QEMU 7.2 writes it, loses neither bases nor state")
  func statusFirst() throws {
    let driver = try GuestDriver()
    let frontend = try running(driver)
    try frontend.send(Wire.setStatus, number(0))
    try frontend.send(Wire.setVringEnable, words(0, 0))
    #expect(try frontend.ask(Wire.getVringBase, words(0, 0)) == words(0, 1))
    #expect(echoed(frontend) == 3)
    try start(frontend, driver, base: 1)
    try driver.offer([4])
    try driver.kickDevice(frontend)
    #expect(echoed(frontend) == 4)
  }

  @Test("status 0 resets a device that is broken")
  func reset() throws {
    let driver = try GuestDriver()
    let broken = try running(driver)
    try driver.claimAvailable(0x7fff)
    try driver.kickDevice(broken)
    try stop(broken)
    #expect(broken.brokenCount == 1)
    #expect(echoed(broken) == 0)
  }

  @Test("a broken device whose rings stop and start again where they were serves another driver, without STATUS too")
  func brokenWithoutStatus() throws {
    let driver = try GuestDriver()
    let frontend = try Frontend()
    try frontend.negotiate(protocol: Wire.all & ~Wire.statusFeature)
    try driver.setUp(frontend)
    try frontend.send(Wire.setVringEnable, words(0, 1))
    try driver.offer([1, 2, 3])
    try driver.kickDevice(frontend)
    try driver.claimAvailable(0x7fff)
    try driver.kickDevice(frontend)
    #expect(frontend.brokenCount == 1)
    #expect(try frontend.ask(Wire.getVringBase, words(0, 0)) == words(0, 1))
    try driver.claimAvailable(1)
    try driver.setUp(frontend, base: 1)
    try driver.offer([4])
    try driver.kickDevice(frontend)
    #expect(try driver.answer(1, byteCount: 1) == [5])
    #expect(echoed(frontend) == 1)
    #expect(frontend.device.update { $0.startCount } == 2)
  }

  @Test("a saved state is the device's own snapshot, to the end of the pipe, also after status 0")
  func save() throws {
    let frontend = try running(GuestDriver())
    try stop(frontend)
    let pipe: FileDescriptor
    do {
      let both = try FileDescriptor.pipe()
      pipe = try both.reading.duplicate()
      let answer = try frontend.ask(Wire.setDeviceStateFd, words(0, 0), descriptors: [both.writing.rawValue])
      #expect(answer == number(0x100))
    }
    let expected = try state(3)
    #expect(try pipe.readBytes(exactly: expected.count) == expected)
    #expect(try pipe.readBytes(upTo: 1) == [])
    #expect(try frontend.ask(Wire.checkDeviceState).number == 0)
    #expect(try frontend.ask(Wire.checkDeviceState).number == 1)
  }

  @Test("a loaded state is what the device goes on from, whenever its features are agreed", arguments: [true, false])
  func load(isEarly: Bool) throws {
    let frontend = try Frontend()
    let driver = try GuestDriver()
    try frontend.send(Wire.setProtocolFeatures, number(Wire.all))
    if !isEarly { try frontend.negotiate() }
    #expect(try load(state(700), frontend) == 0)
    try start(frontend, driver, base: 0)
    try driver.offer([1])
    try driver.kickDevice(frontend)
    #expect(echoed(frontend) == 701)
    try frontend.send(Wire.resetDevice)
    #expect(echoed(frontend) == 0)
  }

  @Test("a state that is none, or not one of such a device, is reported and not adopted")
  func badStates() throws {
    let frontend = try Frontend()
    try frontend.negotiate()
    for bytes in [[], [1, 2, 3], Array(try state(5).dropLast()), try state(.max)] as [[UInt8]] {
      #expect(try load(bytes, frontend) == 1)
      #expect(echoed(frontend) == 0)
    }
    #expect(try load(state(5), frontend) == 0)
  }

  @Test("a state that has not come to its end is none, and more than 16 MiB are not taken")
  func endless() throws {
    let frontend = try Frontend()
    try frontend.negotiate()
    let pipe = try FileDescriptor.pipe()
    #expect(
      try frontend.ask(Wire.setDeviceStateFd, words(1, 0), descriptors: [pipe.reading.rawValue]) == number(0x100))
    try pipe.writing.writeAll(state(5))
    #expect(try frontend.ask(Wire.checkDeviceState).number == 1)
    #expect(try load([UInt8](repeating: 7, count: (16 << 20) + 1), frontend) == 1)
    #expect(!frontend.isEnded)
  }

  @Test("a front-end that does not read a state, or is gone, leaves the loop free")
  func stuckPipe() throws {
    let frontend = try running(GuestDriver())
    try stop(frontend)
    do {
      let pipe = try FileDescriptor.pipe()
      try pipe.writing.setBlocking(false)
      while (try? pipe.writing.writeAll([0], within: .zero)) != nil {}
      _ = try frontend.ask(Wire.setDeviceStateFd, words(0, 0), descriptors: [pipe.writing.rawValue])
      #expect(try frontend.ask(Wire.checkDeviceState).number == 1)
      _ = try frontend.ask(Wire.setDeviceStateFd, words(0, 0), descriptors: [pipe.writing.rawValue])
    }
    try frontend.pump()
    #expect(try frontend.loop.runOnce(within: .zero) == 0)
    #expect(try frontend.ask(Wire.checkDeviceState).number == 1)
  }

  @Test("states are moved only while no ring is started, through pipes, in directions that exist")
  func refusals() throws {
    let pipe = try FileDescriptor.pipe()
    let frontend = try running(GuestDriver())
    #expect(
      try frontend.ask(Wire.setDeviceStateFd, words(0, 0), descriptors: [pipe.writing.rawValue]) == number(0x101))
    #expect(try frontend.ask(Wire.checkDeviceState).number == 1)
    for (direction, phase): (UInt32, UInt32) in [(2, 0), (0, 1)] {
      let frontend = try Frontend()
      try frontend.negotiate()
      try frontend.send(Wire.setDeviceStateFd, words(direction, phase), descriptors: [pipe.writing.rawValue])
      #expect(frontend.error == .illegalStateTransfer(direction: direction, phase: phase))
    }
    let file = try Witness()
    let other = try Frontend()
    try other.negotiate()
    try other.send(Wire.setDeviceStateFd, words(0, 0), descriptors: [file.number])
    guard case .system = other.error else { return #expect(Bool(false)) }
    #expect(try file.copyCount() == 0)
  }
}
