import Testing

@testable import virtiokit

@Suite("virtiokit migrate: devices that have to be the same") struct QemuDevicesTests {
  private static func devices(_ device: String, processors: Int = 1) throws -> QemuDevices {
    let buses = """
      [{"bus": 0, "devices": [
        {"bus": 0, "slot": 28, "function": 0, "id": {"vendor": 6966, "device": 12}, "qdev_id": "",
         "pci_bridge": {"bus": {"number": 7}, "devices": [
           {"bus": 7, "slot": 0, "function": 0, "id": {"vendor": 6900, "device": 4161}}]}},
        \(device),
        {"bus": 0, "slot": 0, "function": 0, "id": {"vendor": 32902, "device": 10688}}]}]
      """
    let each = [JSON](repeating: .object([]), count: processors)
    return QemuDevices(buses: try #require(JSON(parsing: buses)), processors: .array(each))
  }

  private static let balloon = #"{"slot": 4, "function": 0, "id": {"vendor": 6900, "device": 4098}}"#
  private static let card = #"{"slot": 4, "function": 0, "id": {"vendor": 6900, "device": 4096}}"#

  @Test("each has a name by its place and kind, without the numbers that a guest gives buses")
  func names() throws {
    #expect(
      try Self.devices(Self.balloon).names == [
        "0:00.0 8086:29c0", "0:04.0 1af4:1002", "0:1c.0 1b36:000c", "0:1c.0/00.0 1af4:1041", "processors: 1",
      ])
  }

  @Test("what either side has and the other has not is named, and nothing else")
  func refused() throws {
    let devices = try Self.devices(Self.balloon)
    #expect(try devices.reason(toRefuse: QemuDevices(text: Self.devices(Self.balloon).text)) == nil)
    let reason = try devices.reason(toRefuse: QemuDevices(text: Self.devices(Self.card).text))
    #expect(reason?.contains("only there 0:04.0 1af4:1000; only here 0:04.0 1af4:1002:") == true)
    let other = try devices.reason(toRefuse: QemuDevices(text: Self.devices(Self.balloon, processors: 2).text))
    #expect(other?.contains("only there processors: 2; only here processors: 1:") == true)
  }

  @Test("an answer of another kind is no device, and more than a note holds is told in part")
  func strange() {
    #expect(QemuDevices(buses: .null, processors: .text("two")).names == ["processors: 0"])
    let many = JSON.array((0..<1000).map { .object([("slot", .number($0)), ("id", .null)]) })
    let devices = QemuDevices(buses: .array([.object([("devices", many)])]), processors: .null)
    #expect(devices.names.count == 1001)
    #expect(devices.text.utf8.count <= 4096)
    #expect(devices.reason(toRefuse: QemuDevices(text: devices.text)) == nil)
  }
}
