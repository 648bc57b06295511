import GuestRAM
import LinuxIO
import Testing

@testable import QEMUStream

@Suite("Reading QEMU's streams") struct ReadTests {
  @Test(
    "A stream of QEMU is read whole: machine, memory, and each section to its last byte",
    arguments: Fixture.allCases)
  func sections(_ fixture: Fixture) throws {
    let stream = try fixture.read().stream
    #expect(stream.machine == fixture.machine)
    #expect(stream.byteCount == UInt64(try fixture.bytes.count))
    #expect(stream.virtioDevices.map(\.model) == [.block, .net, .balloon])
    #expect(stream.virtioDevices.allSatisfy { $0.transport == (fixture.isPCI ? .pci : .mmio) })
    #expect(stream.blocks.first { $0.name.hasSuffix(".ram") }?.byteCount == 1 << 20)
  }

  @Test("A field's number stands in the stream where the field says", arguments: Fixture.allCases)
  func places(_ fixture: Fixture) throws {
    let bytes = try fixture.bytes
    for section in try fixture.read().stream.sections {
      for field in section.fields where !field.name.hasPrefix("requests") {
        guard case .unsigned(let value) = field.value else { continue }
        let place = Int(field.offset)
        let found = bytes[place..<place + field.byteCount].reduce(UInt64(0)) { $0 << 8 | UInt64($1) }
        #expect(found == value, "\(section.name) \(field.name)")
      }
    }
  }

  @Test("What a driver has set up is told field by field")
  func virtio() throws {
    let disk = try Fixture.q35.read().stream.device(.block)
    #expect(disk.path == "0000:00:01.0")
    #expect(disk.number("status") == 15)
    #expect(disk.number("queues[0].size") == 16)
    #expect(disk.number("queues[0].desc") == 0x10000)
    #expect(disk.number("queues[0].lastAvailable") == 1)
    #expect(disk.number("rings[0].avail") == 0x10100)
    #expect(disk.number("modern.queues[0].enabled") == 1)
    #expect(disk.number("allFeatures") == 1 << 32 | 1 << 29 | 1 << 11 | 1 << 9)
    let card = try Fixture.microvm.read().stream.device(.net)
    #expect(card.section.fields.first { $0.name == "mac" }?.value == .bytes([0x52, 0x54, 0, 0x12, 0x34, 0x56]))
    #expect(card.number("promiscuous") == 0)
    #expect(try Fixture.microvm.read().stream.device(.balloon).number("queues[2].lastAvailable") == 1)
  }

  @Test("QEMU 10: a balloon has MSI-X, and queues are longer than their drivers make them")
  func laterBalloon() throws {
    let stream = try Fixture.later.read().stream
    let balloon = try stream.device(.balloon)
    #expect(balloon.bytes("msix.table")?.count == 32)
    #expect(balloon.number("queues[0].vector") == 1)
    #expect(balloon.number("queues[2].lastAvailable") == 1)
    #expect(try stream.device(.net).number("defaultSizes[0].size") == 1024)
  }

  @Test("QEMU 10: a file in which each page has its place, with a back-end's disk and a card's steering")
  func mappedFile() throws {
    let whole = try Fixture.mapped.read()
    let stream = whole.stream
    #expect(stream.configuration.map(\.value) == [.text("mapped-ram")])
    #expect(stream.byteCount == UInt64(try Fixture.mapped.bytes.count))
    #expect(stream.virtioDevices.map(\.model) == [.vhostUserBlock, .net, .balloon])
    // What the driver has written of a frame that waits.
    #expect(try whole.memory.readBytes(7, at: GuestAddress(0x80000 + 26)) == Array("carried".utf8))
    let disk = try stream.device(.vhostUserBlock)
    #expect(disk.number("queues[0].lastAvailable") == 1)
    #expect(disk.config?.littleEndian64(at: 0) == 128)
    let card = try stream.device(.net)
    #expect(card.number("rss.enabled") == 1)
    #expect(card.number("rss.types") == 0x15)
    #expect(card.bytes("rss.key") == Array(1...40))
    #expect(card.bytes("rss.table") == [UInt8](repeating: 0, count: 8))
  }

  @Test("Requests that QEMU could not do are told with their buffers")
  func parked() throws {
    let disk = try Fixture.parked.read().stream.device(.block)
    #expect(disk.number("requests[0].head") == 6)
    #expect(disk.number("requests[1].head") == 3)
    #expect(disk.number("requests[1].follows") == 1)
    #expect(disk.number("requests[2].follows") == 0)
    #expect(disk.number("requests[0].out[1].length") == 512)
    #expect(disk.number("requests[0].in[0].length") == 1)
  }

  @Test("What is not virtio is told as the stream describes itself")
  func described() throws {
    let stream = try Fixture.q35.read().stream
    let clock = try #require(stream.sections.first { $0.name == "mc146818rtc" })
    #expect(clock.fields.contains { $0.name == "cmos_data" && $0.byteCount == 128 })
    let cpu = try #require(stream.sections.first { $0.name == "cpu" })
    #expect(cpu.fields.contains { $0.name == "env.regs[15]" && $0.byteCount == 8 })
  }

  @Test("A stream without a description is read, its sections found by their footers")
  func undescribed() throws {
    var stream = SyntheticStream()
    let body: [UInt8] = [0x7E, 0, 0, 0, 0, 9, 0x7E, 0, 0, 0, 0, 0, 0, 0]
    stream.section("clock", fields: "", body)
    stream.end(described: false)
    let section = try #require(try QEMUStream.read(stream.bytes).sections.first)
    #expect(section.body == body)
    #expect(section.fields.map(\.name) == ["data"])
  }

  @Test("The last content of a page counts, and zeros take no memory")
  func pages() throws {
    var stream = SyntheticStream()
    stream.memory(pages: 4) {
      $0.wholePage(0, block: "microvm.ram", fill: 1)
      $0.wholePage(1, fill: 2)
      $0.zeroPage(2)
      $0.zeroPage(3)
      $0.zeroPage(0)
      $0.wholePage(3, fill: 5)
      $0.wholePage(2, fill: 0)
    }
    stream.end()
    let whole = try QEMUStream.readWithMemory(stream.bytes)
    #expect(try whole.memory.residentByteCount() == 3 * 4096)
    let firsts = try (0..<4).map { try whole.memory.read(UInt8.self, at: GuestAddress($0 * 4096 + 4095)) }
    #expect(firsts == [0, 2, 0, 5])
    #expect(whole.stream.pages.filled == 3)
    #expect(whole.stream.pages.whole == 4)
  }

  @Test("A page of the same block as the one before is of it across parts, too")
  func sameBlock() throws {
    var stream = SyntheticStream()
    stream.memory(pages: 2) {
      $0.wholePage(0, block: "microvm.ram", fill: 1)
      $0.put64(0x10)
      $0.footer(0)
      $0.bytes += [3, 0, 0, 0, 0]
      $0.wholePage(1, fill: 2)
    }
    // The first of the two parts is not the last.
    stream.bytes[78] = 2
    stream.end()
    let whole = try QEMUStream.readWithMemory(stream.bytes)
    #expect(try whole.memory.read(UInt8.self, at: GuestAddress(4096)) == 2)
  }

  @Test("QEMU 10: a file in which each page has its place is read, and a page that it leaves out is zero")
  func mappedPages() throws {
    var stream = SyntheticStream()
    stream.mappedMemory([nil, 7, nil, 9])
    stream.end()
    let whole = try QEMUStream.readWithMemory(stream.bytes)
    let firsts = try (0..<4).map { try whole.memory.read(UInt8.self, at: GuestAddress($0 * 4096)) }
    #expect(firsts == [0, 7, 0, 9])
    #expect(whole.stream.configuration.map(\.value) == [.text("mapped-ram")])
    for (place, name) in [
      (stream.mappedHeader, "mapped"), (stream.mappedHeader + 4, "mapped"), (stream.mappedHeader + 12, "mapped"),
    ] {
      var damaged = stream.bytes
      damaged[place] = 0x40
      #expect(try refusal(damaged).description.contains(name))
    }
  }

  @Test("A snapshot that QEMU takes while the guest runs (background-snapshot) leaves the memory's section open")
  func openMemory() throws {
    var stream = SyntheticStream()
    stream.memory(pages: 1) { $0.wholePage(0, block: "microvm.ram", fill: 3) }
    // No part is the last.
    stream.bytes[78] = 2
    stream.end()
    let whole = try QEMUStream.readWithMemory(stream.bytes)
    #expect(try whole.memory.read(UInt8.self, at: GuestAddress(0)) == 3)
  }

  @Test("QEMU 10: the announcement that the guest moves is passed over")
  func switchover() throws {
    var stream = SyntheticStream()
    stream.bytes += [8, 0, 11, 0, 0]
    stream.end()
    #expect(try QEMUStream.read(stream.bytes).sections.isEmpty)
  }

  @Test("Of a virtio device that is not known what every device has is told, and the rest in one")
  func unknownDevice() throws {
    var stream = SyntheticStream()
    stream.virtio("virtio-mmio@00000000feb02e00/virtio-harp", SyntheticStream.balloon)
    stream.end()
    let section = try #require(try QEMUStream.read(stream.bytes).sections.first)
    #expect(section.fields.first { $0.name == "queues[0].size" }?.value == .unsigned(128))
    #expect(section.fields.last?.value == .bytes([0, 0, 0, 7, 0, 0, 0, 5]))
  }

  @Test("A file and a pipe give the same as bytes in memory")
  func pipe() throws {
    let bytes = try Fixture.microvm.bytes
    let pipe = try FileDescriptor.pipe()
    let number = pipe.writing.release()
    let thread = try Thread(name: "writer") {
      let end = FileDescriptor(owning: number)
      // A reader that goes away early is the test's failure, told by what it throws.
      do { try end.writeAll(bytes) } catch {}
    }
    let stream = try QEMUStream.read(pipe.reading)
    thread.join()
    #expect(stream.sections == (try QEMUStream.read(bytes)).sections)
  }

  @Test("Two streams differ in the fields that differ")
  func differences() throws {
    let stream = try Fixture.microvm.read().stream
    #expect(stream.differences(to: stream).isEmpty)
    let found = stream.differences(to: try Fixture.parked.read().stream).map(\.description)
    #expect(found.contains { $0.contains("virtio-blk: requests[0].follows: 0 -> 1") })
    #expect(found.contains { $0.contains("virtio-blk: requests[1].head: absent -> 3") })
  }
}
