import Support
import Testing
import VirtioCore

@Suite("2.5 Device configuration space")
struct ConfigurationTests {
  @Test("2.5: it is the same in every piece, and 0 beyond its end", arguments: devices)
  func reads(device: any DeviceUnderTest) throws {
    try device.checkConfigurationReads()
  }

  @Test(
    "2.5.2: writes of every offset and length are taken or refused, and the device serves on",
    arguments: devices)
  func writes(device: any DeviceUnderTest) throws {
    try device.checkConfigurationWrites()
  }
}

extension Harness where Device: ~Copyable {
  func checkConfigurationReads() throws {
    let bench = try bench()
    let whole = bench.host.device.config + [UInt8](repeating: 0, count: 16)
    for offset in 0..<(whole.count - 8) {
      for count in 0...8 {
        #expect(bench.host.readConfig(at: offset, byteCount: count) == Array(whole[offset..<(offset + count)]))
      }
    }
  }

  func checkConfigurationWrites() throws {
    var bench = try bench()
    try bench.start(bench.features)
    let size = bench.host.device.config.count
    for value: UInt8 in [0, 1, 0x7F, 0xFF] {
      for offset in -1...(size + 1) {
        for count in 0...(size + 1) {
          let bytes = [UInt8](repeating: value, count: count)
          var isTaken = true
          do { try bench.host.writeConfig(bytes, at: offset) } catch { isTaken = false }
          #expect(isTaken == (offset >= 0 && offset + count <= size))
          #expect(bench.host.device.config.count == size)
        }
      }
    }
    // 2.5.1: the generation is about changes that the driver did not make.
    #expect(bench.host.configGeneration == 0)
    try bench.ask(self, 0..<20)
    #expect(bench.host.isBroken == false)
  }
}
