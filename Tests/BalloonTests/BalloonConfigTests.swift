import Balloon
import GuestRAM
import Testing
import VirtioCore
import Virtqueue

@Suite("Balloon: configuration space") struct BalloonConfigTests {
  @Test("5.5.4: the space is as long as the offered features make it", arguments: UInt64(0)...Bit.all)
  func length(features: UInt64) {
    var options = BalloonOptions()
    options.mustTellHost = features & Bit.mustTellHost != 0
    options.statistics = features & Bit.statistics != 0
    options.deflateOnOutOfMemory = features & Bit.deflateOnOutOfMemory != 0
    options.freePageHint = features & Bit.hint != 0
    options.pagePoison = features & Bit.poison != 0
    options.pageReporting = features & Bit.reporting != 0
    let device = BalloonDevice(options, reclaimer: Recorder())
    #expect(device.offeredFeatures == Features(low: features))
    #expect(device.config.count == (features & Bit.poison != 0 ? 16 : features & Bit.hint != 0 ? 12 : 8))
  }

  @Test("5.5.3: a driver that is not told otherwise finds statistics, whose queue holds the numbering together")
  func defaults() {
    let offered = BalloonDevice(reclaimer: Recorder()).offeredFeatures
    #expect(offered.low & Bit.statistics != 0)
    #expect(offered.low & Bit.deflateOnOutOfMemory == 0)
  }

  @Test("5.5.4: the fields stand where they should, little endian")
  func layout() throws {
    let guest = try BalloonGuest(reclaimer: Recorder(), poisonValue: 0xAABB_CCDD)
    try guest.host.update { (device) throws(BalloonError) in
      device.setTarget(BalloonTarget(pageCount: 0x0102_0304))
      try device.startHinting()
    }
    try guest.host.writeConfig([5, 6, 7, 8], at: 4)
    #expect(
      guest.host.readConfig(at: 0, byteCount: 16)
        == [4, 3, 2, 1, 5, 6, 7, 8, 0, 0, 0, 0x80, 0xDD, 0xCC, 0xBB, 0xAA])
    #expect(guest.host.device.actualPageCount == 0x0807_0605)
    #expect(guest.host.device.target.pageCount == 0x0102_0304)
  }

  @Test("5.5.4: a driver changes its own fields only")
  func readOnly() throws {
    let guest = try BalloonGuest(reclaimer: Recorder())
    guest.host.update { $0.setTarget(BalloonTarget(pageCount: 77)) }
    try guest.host.writeConfig([UInt8](repeating: 0xFF, count: 16), at: 0)
    #expect(guest.config(at: 0) == 77)
    #expect(guest.config(at: 4) == .max)
    #expect(guest.config(at: 8) == 0)
    #expect(guest.config(at: 12) == .max)
  }

  @Test("5.5.6: actual may come byte by byte")
  func parts() throws {
    let guest = try BalloonGuest(reclaimer: Recorder())
    for (offset, byte) in [UInt8(0x11), 0x22, 0x33, 0x44].enumerated() {
      try guest.host.writeConfig([byte], at: 4 + offset)
    }
    #expect(guest.config(at: 4) == 0x4433_2211)
  }

  @Test("2.4: a new target is a configuration change, the same one again is not")
  func target() throws {
    let guest = try BalloonGuest(reclaimer: Recorder())
    let generation = guest.host.configGeneration
    guest.host.update { $0.setTarget(BalloonTarget(pageCount: 3)) }
    guest.host.update { $0.setTarget(BalloonTarget(pageCount: 3)) }
    #expect(guest.notifications.all == [.configuration])
    #expect(guest.host.configGeneration == generation + 1)
  }

  @Test("2.4.1: a reset takes what the driver wrote and leaves what the operator set")
  func reset() throws {
    let guest = try BalloonGuest(reclaimer: Recorder(), poisonValue: 9)
    guest.host.update { $0.setTarget(BalloonTarget(pageCount: 3)) }
    try guest.host.writeConfig([1, 0, 0, 0], at: 4)
    try guest.send(frames: [BalloonGuest<Recorder>.firstFreePage], to: 0)
    guest.host.reset()
    #expect(guest.host.readConfig(at: 0, byteCount: 16) == [3] + [UInt8](repeating: 0, count: 15))
    #expect(guest.host.device.counters.inflatedPages == 0)
    #expect(guest.host.device.counters.reclaimedBytes == 4096)
    #expect(guest.host.device.reclaimer.events.last == .reset)
  }
}
