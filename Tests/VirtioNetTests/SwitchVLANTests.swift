import Testing

@testable import VirtioNet

@Suite("VLANs of a switch") struct SwitchVLANTests {
  private let a: UInt64 = 0x5254_0000_000A
  private let b: UInt64 = 0x5254_0000_000B

  /// A frame's tag as it comes, and as it leaves; nil for none.
  struct Case: CustomTestStringConvertible {
    let from: PortVLANs
    let tag: UInt16?
    let to: PortVLANs
    /// Nil when nothing leaves.
    let leaving: UInt16??
    var testDescription: String { "\(from) \(tag.map { "\($0)" } ?? "untagged") to \(to)" }
  }

  private static let cases: [Case] = [
    Case(from: .trunk, tag: nil, to: .trunk, leaving: .some(nil)),
    Case(from: .trunk, tag: 5, to: .trunk, leaving: 5),
    Case(from: .trunk, tag: 0x6000, to: .trunk, leaving: 0x6000),
    Case(from: .trunk, tag: nil, to: .access(5), leaving: nil),
    Case(from: .trunk, tag: 0x6000, to: .access(5), leaving: nil),
    Case(from: .trunk, tag: 0xE005, to: .access(5), leaving: .some(nil)),
    Case(from: .trunk, tag: 6, to: .access(5), leaving: nil),
    Case(from: .trunk, tag: 0xFFF, to: .trunk, leaving: nil),
    Case(from: .access(5), tag: nil, to: .access(5), leaving: .some(nil)),
    Case(from: .access(5), tag: nil, to: .access(6), leaving: nil),
    Case(from: .access(5), tag: nil, to: .trunk, leaving: 5),
    Case(from: .access(5), tag: 0x6000, to: .trunk, leaving: 0x6005),
    Case(from: .access(5), tag: 0x6000, to: .access(5), leaving: .some(nil)),
    Case(from: .access(5), tag: 0x6005, to: .trunk, leaving: 0x6005),
    Case(from: .access(5), tag: 5, to: .access(5), leaving: .some(nil)),
    Case(from: .access(5), tag: 6, to: .trunk, leaving: nil),
    Case(from: .access(5), tag: 6, to: .access(6), leaving: nil),
  ]

  @Test("a frame goes where its VLAN is carried, with the tag it has there", arguments: cases)
  func tags(row: Case) throws {
    let network = LearningSwitch()
    let source = try network.addPort("source", row.from)
    let target = try network.addPort("target", row.to)
    for isKnown in [false, true] {
      source.sendAll([BenchFrame.bytes(to: b, from: a, tag: row.tag, 7)])
      let expected = row.leaving.map { BenchFrame.bytes(to: b, from: a, tag: $0, 7) }
      #expect(target.receiveAll() == (expected.map { [$0] } ?? []), "known: \(isKnown)")
      guard let leaving = row.leaving else { break }
      target.sendAll([BenchFrame.bytes(to: a, from: b, tag: leaving)])
      #expect(source.receiveAll().count == 1)
    }
  }

  @Test("a frame of a VLAN that may not come from there is counted as filtered")
  func filtered() throws {
    let network = LearningSwitch()
    let port = try network.addPort("source", .access(5))
    let other = try network.addPort("other")
    port.sendAll([BenchFrame.bytes(to: b, from: a, tag: 6)])
    #expect(port.counters.drops == [.filtered: 1] && other.receiveAll().isEmpty)
    #expect(network.table.isEmpty)
  }

  @Test("the same address in two VLANs is two addresses")
  func perVLAN() throws {
    let network = LearningSwitch()
    let trunk = try network.addPort("trunk")
    let five = try network.addPort("five", .access(5))
    let six = try network.addPort("six", .access(6))
    five.sendAll([BenchFrame.bytes(to: b, from: a)])
    six.sendAll([BenchFrame.bytes(to: b, from: a)])
    #expect(network.table.map { [$0.port, "\($0.vlan)"] } == [["five", "5"], ["six", "6"]])
    _ = trunk.receiveAll()
    trunk.sendAll([BenchFrame.bytes(to: a, from: b, tag: 6)])
    #expect(five.receiveAll().isEmpty)
    #expect(six.receiveAll() == [BenchFrame.bytes(to: a, from: b)])
  }

  @Test("a checksum that is to be done moves with its tag")
  func checksum() throws {
    let network = LearningSwitch()
    let trunk = try network.addPort("trunk")
    let access = try network.addPort("access", .access(5))
    var header = NetHeader()
    header.flags = [.needsChecksum]
    header.checksumStart = 34
    header.headersByteCount = 54
    access.sendAll([BenchFrame.bytes(to: b, from: a)], header)
    var batch = PacketBatch()
    trunk.receive(into: &batch)
    #expect(batch.header(0)?.checksumStart == 38 && batch.header(0)?.headersByteCount == 58)
    batch.removeAll()
    header.checksumStart = 38
    header.headersByteCount = 58
    trunk.sendAll([BenchFrame.bytes(to: a, from: b, tag: 5)], header)
    access.receive(into: &batch)
    #expect(batch.header(0)?.checksumStart == 34 && batch.header(0)?.headersByteCount == 54)
  }

  @Test("a frame that a tag would make too long is dropped")
  func tooLong() throws {
    let network = LearningSwitch()
    let trunk = try network.addPort("trunk")
    let access = try network.addPort("access", .access(5))
    let head = BenchFrame.bytes(to: b, from: a)
    access.sendAll([head + [UInt8](repeating: 0, count: PacketBatch.largestFrameByteCount - head.count - 3)])
    #expect(trunk.receiveAll().isEmpty && trunk.counters.drops == [.tooLong: 1])
  }

  @Test("a number that no VLAN has is refused", arguments: [0, 4095, 65535] as [UInt16])
  func illegal(number: UInt16) {
    #expect(throws: PortError.illegalVLAN(number)) { _ = try LearningSwitch().addPort("x", .access(number)) }
  }
}
