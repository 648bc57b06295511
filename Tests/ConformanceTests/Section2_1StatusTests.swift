import Support
import Testing
import VirtioCore

@Suite("2.1 Device status field, 2.4 Device reset")
struct StatusTests {
  @Test("2.1.2: no buffer is consumed before DRIVER_OK", arguments: devices)
  func beforeDriverOK(device: any DeviceUnderTest) throws {
    try device.checkNothingIsServedBeforeDriverOK()
  }

  @Test("2.4: from every step, a device that was reset starts as one that is new", arguments: devices)
  func reset(device: any DeviceUnderTest) throws {
    try device.checkResetFromEveryStep()
  }
}

extension Harness where Device: ~Copyable {
  func checkNothingIsServedBeforeDriverOK() throws {
    var bench = try bench()
    try bench.host.attach(bench.memory)
    for step in driverSteps.dropLast() {
      if step.contains(.featuresOK) { bench.host.writeFeatures(bench.features) }
      try bench.host.writeStatus(step)
    }
    for queue in bench.rings.indices {
      try bench.host.startQueue(queue, bench.rings[queue].configuration())
      try bench.ask(self, queue, on: queue)
      bench.host.wake()
      #expect(try bench.rings[queue].publishedUsedIndex == 0)
    }
    #expect(bench.notifications.take() == [])
    try bench.host.writeStatus(driverSteps[3])
    bench.host.wake()
    #expect(bench.notifications.take() != [])
  }

  func checkResetFromEveryStep() throws {
    let new = try bench()
    for count in 0...driverSteps.count {
      var bench = try bench()
      if count == driverSteps.count {
        try bench.start(bench.features)
        try bench.ask(self, 0..<40)
        for offset in bench.host.device.config.indices { try bench.host.writeConfig([1], at: offset) }
      } else {
        bench.host.writeFeatures(bench.features)
        for step in driverSteps[..<count] { try bench.host.writeStatus(step) }
      }
      try bench.host.writeStatus([])
      #expect(bench.host.status == [])
      #expect(bench.host.device.config == new.host.device.config)
      try bench.restart(bench.features)
      try bench.ask(self, 0..<10)
      #expect(bench.host.isBroken == false)
    }
  }
}
