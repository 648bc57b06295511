import DeviceState
import GuestRAM
import LinuxIO
import Support
import Testing
import VirtioCore

@Suite("Device groups")
struct DeviceGroupTests {
  private typealias Echo = DeviceThread<EchoDevice>

  /// Two devices of one guest, each with a chain that it holds back until it is woken.
  private struct Guest {
    let memory: GuestMemory
    let devices: [Echo]
    var rings: [RingFixture] = []

    init(holds: Bool = true) throws {
      memory = try GuestMemory(byteCount: 1 << 20)
      devices = try (0..<2).map { number in try Echo(name: "echo \(number)") { _ in DeviceHost(EchoDevice()) { _ in } }
      }
      for (number, device) in devices.enumerated() {
        let ring = try RingFixture(size: 16, memory: memory, at: UInt64(number + 1) << 16)
        rings.append(ring)
        try device.attach(memory, within: patience)
        let configuration = try ring.configuration()
        let error = try device.call { (host) in
          refusal { () throws(HostError) in
            try host.acceptFeatures([.version1])
            try host.startQueue(EchoDevice.slowQueue, configuration)
          }
        }
        try #require(error == .some(nil))
        if holds { try offer(to: number) }
      }
    }

    mutating func offer(to number: Int) throws {
      try rings[number].send([.readable(rings[number].heap.rawValue, 1)])
      devices[number].kick(EchoDevice.slowQueue)
    }

    var group: DeviceGroup {
      DeviceGroup(devices.enumerated().map { (number, device) in ("\(number)", device) })
    }

    func arePaused() throws -> [Bool?] { try devices.map { try $0.call { $0.isPaused } } }
    func haveChains() throws -> [Bool?] { try devices.map { try $0.call { $0.hasChainsInFlight } } }
    func wake() { for device in devices { device.post { $0.wake() } } }
    func stop() { for device in devices { device.stop() } }
  }

  @Test("a pause returns once every device has given back what it had, and takes nothing more")
  func pause() throws {
    var guest = try Guest()
    #expect(try guest.haveChains() == [true, true])
    let group = guest.group
    let devices = guest.devices
    let waker = try Thread(name: "backend") {
      // Each gives its chain back only after it was paused.
      for device in devices {
        while (try? device.call { $0.isPaused }) == false {}
        device.post { $0.wake() }
      }
    }
    try group.pause(within: patience)
    waker.join()
    #expect(try guest.haveChains() == [false, false])
    for number in 0..<2 {
      #expect(try guest.rings[number].takeAllUsed().count == 1)
      try guest.offer(to: number)
    }
    #expect(try guest.haveChains() == [false, false])
    try group.resume()
    #expect(try guest.haveChains() == [true, true])
    guest.stop()
  }

  @Test("a pause that takes too long is an error, and every device serves on")
  func tooLong() throws {
    let guest = try Guest()
    #expect(throws: HostError.self) { try guest.group.pause(within: .milliseconds(2)) }
    #expect(try guest.arePaused() == [false, false])
    guest.wake()
    #expect(try guest.haveChains() == [false, false])
    guest.stop()
  }

  @Test("memory with a dirty log is put under devices that serve, and under those that are paused, which they stay")
  func attach() throws {
    var guest = try Guest(holds: false)
    let log = try DirtyLog(coveringUpTo: GuestAddress(1 << 20))
    let logged = try guest.memory.with(dirtyLog: log)
    try guest.devices[1].pause(within: patience)
    try guest.group.attach(logged, within: patience)
    #expect(try guest.arePaused() == [false, true])
    try guest.devices[1].resume()
    for number in 0..<2 { try guest.offer(to: number) }
    guest.wake()
    try guest.group.pause(within: patience)
    var pages: Set<UInt64> = []
    log.collect { pages.insert($0) }
    #expect(pages == Set(guest.rings.map { $0.usedRing.rawValue / 4096 }), "the used rings were written")
    guest.stop()
  }

  @Test("devices that are saved go on elsewhere, told apart by their names")
  func move() throws {
    let guest = try Guest(holds: false)
    for (number, device) in guest.devices.enumerated() {
      let byte = UInt8(number + 7)
      device.post { (host) in try? host.writeConfig([byte], at: 4) }
    }
    try guest.group.pause(within: patience)
    var snapshot = Snapshot()
    try guest.group.save(into: &snapshot)
    let devices = try (0..<2).map { _ in try Echo(name: "echo") { _ in DeviceHost(EchoDevice()) { _ in } } }
    let group = DeviceGroup(devices.enumerated().map { (number, device) in ("\(number)", device) })
    try group.restore(from: &snapshot, in: guest.memory, within: patience)
    try snapshot.checkAllTaken()
    #expect(try devices.map { try $0.call { $0.readConfig(at: 4, byteCount: 1) } } == [[7], [8]])
    #expect(try devices.map { try $0.call { $0.isPaused } } == [true, true])
    try group.resume()
    try guest.group.reset()
    #expect(try guest.devices.map { try $0.call { $0.isRunning(EchoDevice.slowQueue) } } == [false, false])
    for device in devices { device.stop() }
    guest.stop()
  }

  @Test("a device whose thread has ended is gone, to whoever waits for it too")
  func gone() throws {
    let guest = try Guest()
    let devices = guest.devices
    let stopper = try Thread(name: "owner") {
      while (try? devices[0].call { $0.isPaused }) == false {}
      devices[0].stop()
    }
    #expect(throws: HostError.gone) { try guest.devices[0].pause(within: patience) }
    stopper.join()
    #expect(throws: HostError.gone) { try guest.devices[0].resume() }
    guest.stop()
  }

  @Test("news of a backend wakes the model, also such as came while the device was made")
  func news() throws {
    let wake = try Handover<@Sendable () -> Void>()
    let device = try Echo(name: "echo") { (_, bell) in
      bell()
      wake.put(bell)
      return DeviceHost(EchoDevice()) { _ in }
    }
    try device.attach(GuestMemory(byteCount: 1 << 20), within: patience)
    let error = try device.call { (host) in
      refusal { () throws(HostError) in
        try host.writeStatus([.acknowledge])
        try host.writeStatus([.acknowledge, .driver])
        host.writeFeatures([.version1])
        try host.writeStatus([.acknowledge, .driver, .featuresOK])
        try host.writeStatus([.acknowledge, .driver, .featuresOK, .driverOK])
      }
    }
    #expect(error == .some(nil))
    let before = try device.call { (host) in host.device.calls.filter { $0 == .wake }.count } ?? 0
    wake.wait()()
    #expect(try device.call { (host) in host.device.calls.filter { $0 == .wake }.count } == before + 1)
    device.stop()
  }

  /// Cannot be stopped, and cannot go on either.
  private struct Stuck: MovableDevice {
    func pause(within limit: Duration) throws(HostError) { throw .stillBusy(limit) }
    func resume() throws(HostError) { throw .gone }
    func attach(_ memory: GuestMemory, within limit: Duration) {}
    func letGo() {}
    func save(into snapshot: inout Snapshot, instance: String) {}
    func restore(from snapshot: inout Snapshot, instance: String) {}
    func reset() {}
  }

  @Test("a pause that fails tells why, whatever becomes of the devices afterwards")
  func reason() {
    #expect(throws: HostError.stillBusy(.zero)) { try DeviceGroup([("stuck", Stuck())]).pause(within: .zero) }
  }

  @Test("only a device that is paused and quiet lets go of its backends")
  func letGo() throws {
    let guest = try Guest()
    #expect(throws: HostError.notPaused) { try guest.devices[0].letGo() }
    guest.devices[0].post { $0.pause() }
    #expect(throws: HostError.chainsInFlight(queue: EchoDevice.slowQueue, count: 1)) { try guest.devices[0].letGo() }
    guest.wake()
    try guest.devices[0].letGo()
    guest.stop()
  }
}
