import DeviceState
import GuestRAM
import Support
import Testing
import VirtioCore

@Suite("Saving and restoring, for every device")
struct SaveAndRestoreTests {
  @Test("A device that moves after any number of requests ends as one that stayed", arguments: devices)
  func moving(device: any DeviceUnderTest) throws {
    try device.checkMovingAfterAnyRequest()
  }

  @Test("Every step of the driver moves, and goes on with the next", arguments: devices)
  func steps(device: any DeviceUnderTest) throws {
    try device.checkMovingAfterEveryStep()
  }

  @Test("A state of which any byte is another is taken or refused, but never half", arguments: devices)
  func damage(device: any DeviceUnderTest) throws {
    try device.checkDamagedStates()
  }
}

extension Harness where Device: ~Copyable {
  func checkMovingAfterAnyRequest() throws {
    let total = 30
    var stayed = try bench(ringSize: 16)
    try stayed.start(stayed.features)
    try stayed.ask(self, 0..<total)
    try stayed.drain()
    for count in 0...total {
      var source = try bench(ringSize: 16)
      try source.start(source.features)
      try source.ask(self, 0..<count)
      try source.drain()
      let first = try source.save()
      var target = try source.resumed(on: make(), from: first)
      #expect(try target.save() == first)
      target.host.resume()
      try target.ask(self, count..<total)
      try target.drain()
      #expect(try target.save().sections == stayed.save().sections)
      #expect(target.host.isBroken == false)
    }
  }

  func checkMovingAfterEveryStep() throws {
    for count in 0..<3 {
      var source = try bench(ringSize: 16)
      source.host.writeFeatures(source.features)
      for step in driverSteps[..<count] { try source.host.writeStatus(step) }
      try source.drain()
      var target = try source.resumed(on: make(), from: source.save())
      target.host.resume()
      for step in driverSteps[count..<3] { try target.host.writeStatus(step) }
      for queue in target.rings.indices { try target.host.startQueue(queue, target.rings[queue].configuration()) }
      try target.host.writeStatus(driverSteps[3])
      try target.ask(self, 0..<10)
      #expect(target.host.isBroken == false)
      #expect(target.host.features == source.features)
    }
  }

  func checkDamagedStates() throws {
    var source = try bench(ringSize: 16)
    try source.start(source.features)
    try source.ask(self, 0..<12)
    try source.drain()
    let whole = try source.save()
    var target = try source.moved(to: make())
    try target.host.attach(target.memory)
    for (number, section) in whole.sections.enumerated() {
      for place in section.payload.indices {
        for mask: UInt8 in [1, 0x80, 0xFF] {
          var payload = section.payload
          payload[place] ^= mask
          var damaged = Snapshot()
          for (other, section) in whole.sections.enumerated() {
            try damaged.add(
              other == number
                ? SnapshotSection(name: section.name, version: section.version, payload: payload) : section)
          }
          do {
            try target.host.restore(from: &damaged)
          } catch {
            #expect(target.host.status == [])
            #expect(damaged.sections.count == whole.sections.count)
            continue
          }
          // What was taken is a state that can be saved again.
          _ = try target.save()
          target.host.reset()
        }
      }
    }
  }
}

extension DeviceBench where Device: ~Copyable {
  /// Pauses the device and lets it finish what is in flight.
  fileprivate mutating func drain() throws {
    host.pause()
    for _ in 0..<100 where host.hasChainsInFlight { host.wake() }
    #expect(host.hasChainsInFlight == false)
  }

  /// Another device that has adopted this one's state over a copy of its memory, still paused.
  fileprivate func resumed(on device: consuming Device, from snapshot: Snapshot) throws -> DeviceBench {
    var target = try moved(to: device)
    var snapshot = snapshot
    try target.host.attach(target.memory)
    try target.host.restore(from: &snapshot)
    #expect(snapshot.sections == [])
    return target
  }
}
