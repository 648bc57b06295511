import GuestRAM
import Support
import Testing
import VirtioCore

@Suite("Device status")
struct StatusTests {
  static let steps: [DeviceStatus] = [
    [], [.acknowledge], [.acknowledge, .driver], [.acknowledge, .driver, .featuresOK],
    [.acknowledge, .driver, .featuresOK, .driverOK],
  ]

  @Test("2.1: the status bits have the specification's values")
  func values() {
    let bits: [DeviceStatus] = [.acknowledge, .driver, .driverOK, .featuresOK, .needsReset, .failed]
    #expect(bits.map(\.rawValue) == [1, 2, 4, 8, 64, 128])
  }

  @Test("3.1.1: each step is kept, and the model starts with DRIVER_OK and not before")
  func steps() throws {
    var bench = try DeviceBench(EchoDevice())
    let features: Features = [.version1, EchoDevice.distant]
    for (number, step) in Self.steps.enumerated() {
      if step == [.acknowledge, .driver] { bench.host.writeFeatures(features) }
      if !step.isEmpty { try bench.host.writeStatus(step) }
      #expect(bench.host.status == step)
      #expect(bench.host.features == (number < 3 ? [] : features))
      #expect(bench.host.device.calls == (number < 4 ? [] : [.start(features)]))
    }
  }

  @Test("3.1.1: all steps may come in one write, and a step may be repeated")
  func atOnce() throws {
    var bench = try DeviceBench(EchoDevice())
    bench.host.writeFeatures([.version1])
    for _ in 0..<2 { try bench.host.writeStatus(Self.steps[4]) }
    #expect(bench.host.status == Self.steps[4])
    #expect(bench.host.device.calls == [.start([.version1])])
  }

  @Test("2.2.2: FEATURES_OK stays unset for features that are not offered, and the driver may try others")
  func notOffered() throws {
    var bench = try DeviceBench(EchoDevice())
    let unknown: Features = [.version1, Feature(rawValue: 100)]
    bench.host.writeFeatures(unknown)
    let offered = bench.host.offeredFeatures
    #expect(
      refusal { () throws(HostError) in try bench.host.writeStatus(Self.steps[3]) }
        == .featuresNotOffered(unknown, offered: offered))
    #expect(bench.host.status == [.acknowledge, .driver])
    #expect(bench.host.features == [])
    bench.host.writeFeatures([.version1])
    try bench.host.writeStatus(Self.steps[3])
    #expect(bench.host.status == Self.steps[3])
  }

  @Test("6.2: FEATURES_OK stays unset without VIRTIO_F_VERSION_1")
  func legacy() throws {
    var bench = try DeviceBench(EchoDevice())
    bench.host.writeFeatures([EchoDevice.inverting])
    #expect(refusal { () throws(HostError) in try bench.host.writeStatus(Self.steps[4]) } == .legacyDriver)
    #expect(bench.host.status == [.acknowledge, .driver])
    #expect(bench.host.device.calls == [])
  }

  @Test("3.1.1: DRIVER_OK without FEATURES_OK is refused")
  func driverOKAlone() throws {
    var bench = try DeviceBench(EchoDevice())
    try bench.host.writeStatus(Self.steps[2])
    let wrong: DeviceStatus = [.acknowledge, .driver, .driverOK]
    #expect(
      refusal { () throws(HostError) in try bench.host.writeStatus(wrong) }
        == .illegalStatus(wrong, after: Self.steps[2]))
    #expect(bench.host.status == Self.steps[2])
  }

  @Test("2.1.1: a driver must not clear a bit", arguments: [1, 2, 4, 8] as [UInt8])
  func clearing(bit: UInt8) throws {
    var bench = try DeviceBench(EchoDevice())
    try bench.start()
    let all = Self.steps[4]
    let wrong = all.subtracting(DeviceStatus(rawValue: bit))
    #expect(
      refusal { () throws(HostError) in try bench.host.writeStatus(wrong) } == .illegalStatus(wrong, after: all))
    #expect(bench.host.status == all)
  }

  @Test("2.2.1: features are not changed after FEATURES_OK")
  func lateFeatures() throws {
    var bench = try DeviceBench(EchoDevice())
    bench.host.writeFeatures([.version1])
    try bench.host.writeStatus(Self.steps[3])
    bench.host.writeFeatures([.version1, EchoDevice.inverting])
    try bench.host.writeStatus(Self.steps[4])
    #expect(bench.host.device.calls == [.start([.version1])])
  }

  @Test("2.1: bits that have no meaning, or are the device's own, are not kept")
  func foreignBits() throws {
    var bench = try DeviceBench(EchoDevice())
    bench.host.writeFeatures([.version1])
    try bench.host.writeStatus(DeviceStatus(rawValue: 1 | 2 | 8 | 16 | 32 | 64))
    #expect(bench.host.status.rawValue == 11)
    try bench.host.writeStatus(DeviceStatus(rawValue: 0xFF))
    #expect(bench.host.status == [.acknowledge, .driver, .featuresOK, .driverOK, .failed])
    #expect(bench.host.isBroken == false)
  }

  @Test("2.4: writing 0 resets from every step", arguments: 0..<5)
  func reset(step: Int) throws {
    var bench = try DeviceBench(EchoDevice(operatorNumber: 7))
    bench.host.writeFeatures([.version1, EchoDevice.inverting])
    for status in Self.steps[...step] where !status.isEmpty { try bench.host.writeStatus(status) }
    try bench.host.writeConfig([9], at: 4)
    try bench.host.writeStatus([])
    #expect(bench.host.status == [])
    #expect(bench.host.features == [])
    #expect(bench.host.readConfig(at: 0, byteCount: 8) == [7, 0, 0, 0, 0, 0, 0, 0])
    #expect(bench.host.device.calls.last == .reset)
    // The next driver has to propose features of its own.
    #expect(refusal { () throws(HostError) in try bench.host.writeStatus(Self.steps[3]) } == .legacyDriver)
    try bench.host.writeStatus([])
    try bench.start()
    #expect(bench.host.status == Self.steps[4])
  }

  @Test("2.4: after a reset no queue runs, and the same driver can start again")
  func resetWhileServing() throws {
    var bench = try DeviceBench(EchoDevice())
    try bench.start([.version1, EchoDevice.inverting])
    try bench.send([1])
    bench.host.kick(0)
    try bench.host.writeStatus([])
    #expect([0, 1].map { bench.host.isRunning($0) } == [false, false])
    bench.host.kick(0)
    try bench.start()
    let answer = try bench.send([2])
    bench.host.kick(0)
    #expect(try bench.memory.read(UInt8.self, at: answer) == 2)
  }

  @Test("2.1.2: buffers are not consumed and nobody is notified before DRIVER_OK; those kicked early are served then")
  func tooEarly() throws {
    var bench = try DeviceBench(EchoDevice())
    try bench.host.attach(bench.memory)
    bench.host.writeFeatures([.version1])
    try bench.host.writeStatus(Self.steps[3])
    try bench.host.startQueue(0, bench.rings[0].configuration())
    try bench.send([5])
    #expect(bench.host.kick(0) == false)
    #expect(bench.host.wake() == false)
    bench.host.update { $0.operatorNumber = 3 }
    #expect(try bench.rings[0].publishedUsedIndex == 0)
    #expect(bench.notifications.take() == [])
    #expect(bench.host.device.calls == [])
    try bench.host.writeStatus(Self.steps[4])
    #expect(try bench.rings[0].publishedUsedIndex == 1)
    #expect(bench.notifications.take() == [.queue(0)])
  }

  @Test("A queue set up before FEATURES_OK never reaches the model with features that nobody agreed on")
  func unagreedFeatures() throws {
    var bench = try DeviceBench(EchoDevice())
    try bench.host.attach(bench.memory)
    bench.host.writeFeatures(Features(low: .max, high: .max))
    try bench.host.startQueue(0, bench.rings[0].configuration())
    #expect(bench.host.device.calls.first == .start([]))
  }

  @Test("3.1.1: a queue that was set up without features is not taken over into others")
  func queueBeforeFeatures() throws {
    var bench = try DeviceBench(EchoDevice())
    try bench.host.attach(bench.memory)
    try bench.host.writeStatus(Self.steps[2])
    try bench.host.startQueue(0, bench.rings[0].configuration())
    bench.host.writeFeatures([.version1, .eventIndex])
    #expect(refusal { () throws(HostError) in try bench.host.writeStatus(Self.steps[3]) } == .queuesRunning)
    #expect(bench.host.status == Self.steps[2])
    _ = try bench.host.stopQueue(0)
    try bench.host.writeStatus(Self.steps[4])
    #expect(bench.host.device.calls == [.start([.version1, .eventIndex])])
  }
}

@Suite("Features without status steps")
struct AcceptFeaturesTests {
  @Test("Features are taken if offered, and the model starts with its first queue")
  func first() throws {
    var bench = try DeviceBench(EchoDevice())
    try bench.startWithoutStatus([.version1, .eventIndex])
    #expect(bench.host.device.calls == [.start([.version1, .eventIndex]), .resetQueue(0), .resetQueue(1)])
    let wrong: Features = [Feature(rawValue: 127)]
    let offered = bench.host.offeredFeatures
    #expect(
      refusal { () throws(HostError) in try bench.host.acceptFeatures(wrong) }
        == .featuresNotOffered(wrong, offered: offered))
  }

  @Test("Other features are refused while a queue runs; the same ones are not")
  func whileRunning() throws {
    var bench = try DeviceBench(EchoDevice())
    try bench.startWithoutStatus([.version1])
    #expect(refusal { () throws(HostError) in try bench.host.acceptFeatures([]) } == .queuesRunning)
    try bench.host.acceptFeatures([.version1])
    #expect(bench.host.features == [.version1])
  }

  @Test("Once the queues have stopped, other features start the model anew")
  func again() throws {
    var bench = try DeviceBench(EchoDevice())
    try bench.startWithoutStatus([.version1])
    for queue in 0..<2 { _ = try bench.host.stopQueue(queue) }
    try bench.host.acceptFeatures([.version1, EchoDevice.inverting])
    try bench.host.startQueue(0, bench.rings[0].configuration())
    #expect(
      bench.host.device.calls.suffix(3) == [.reset, .start([.version1, EchoDevice.inverting]), .resetQueue(0)])
  }
}
