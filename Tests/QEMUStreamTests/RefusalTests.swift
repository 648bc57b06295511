import GuestRAM
import QEMUStream
import Testing

/// The error that reading gives; a test fails without one.
func refusal(_ bytes: [UInt8]) throws -> QEMUStreamError {
  try #require(throws: QEMUStreamError.self) { try QEMUStream.readWithMemory(bytes) }
}

@Suite("Streams that lie") struct RefusalTests {
  @Test("What is no stream, or of another version, is refused by its first bytes")
  func beginnings() throws {
    #expect(try refusal([1, 2, 3, 4, 5, 6, 7, 8]) == .notAStream(magic: 0x0102_0304))
    #expect(try refusal([0x11, 0x22, 0x33, 0x44, 0, 0, 0, 1]).description.contains("multifd"))
    let old = StreamPlace(section: "header", field: "version", offset: 4)
    #expect(try refusal([0x51, 0x45, 0x56, 0x4D, 0, 0, 0, 2]) == .unsupportedVersion(old, version: 2, known: 3))
  }

  @Test(
    "Pages of a kind that is not taken are refused by its name",
    arguments: [(0x40, "xbzrle"), (0x80, "RDMA"), (0x100, "compressed"), (0x200, "multifd"), (0x0A, "flags 0xa")])
  func pages(_ flag: UInt64, _ name: String) throws {
    var stream = SyntheticStream()
    stream.memory(pages: 1) { $0.page(0, flag: flag, block: "microvm.ram") }
    stream.end()
    let error = try refusal(stream.bytes)
    #expect(error.description.contains(name))
    #expect(error.description.contains("section ram, field page, byte 83"))
  }

  @Test("A page filled with anything but zeros, which takes 455 times its bytes in memory, is refused")
  func filledPages() throws {
    var stream = SyntheticStream()
    stream.memory(pages: 1) { $0.zeroPage(0, block: "microvm.ram", fill: 9) }
    stream.end()
    let place = StreamPlace(section: "ram", field: "page", offset: 83)
    #expect(try refusal(stream.bytes) == .unsupported(place, what: "a page filled with 9"))
  }

  @Test("Pages of no block, and beyond a block's end, are refused")
  func unknownPages() throws {
    for (number, block) in [(UInt64(1), "microvm.ram"), (0, "other"), (1 << 50, "microvm.ram")] {
      var stream = SyntheticStream()
      stream.memory(pages: 1) { $0.zeroPage(number, block: block) }
      let error = try refusal(stream.bytes)
      let place = StreamPlace(section: "ram", field: "page", offset: 83)
      #expect(error == .unknownPage(place, block: block, offset: number * 4096))
    }
    var stream = SyntheticStream()
    stream.memory(pages: 1) { $0.zeroPage(0) }
    #expect(try refusal(stream.bytes).description.contains("the block before, where there is none"))
  }

  @Test("Memory that the stream does not tell whole is not taken over")
  func missingPages() throws {
    var stream = SyntheticStream()
    stream.memory(pages: 130) { $0.zeroPage(0, block: "microvm.ram") }
    stream.end()
    #expect(try refusal(stream.bytes) == .missingPages(block: "microvm.ram", count: 129))
  }

  @Test("Memory longer than the caller wants is refused by its header, and more is loaded where it is wanted")
  func longMemory() throws {
    var huge = SyntheticStream()
    huge.memory(pages: 15 << 30) { _ in }
    let wanted = try refusal(huge.bytes).description
    #expect(wanted.contains("a memory of 65970697666560 bytes, where at most 1099511627776 are loaded"))
    let small = SyntheticStream.small.bytes
    #expect(throws: QEMUStreamError.self) { try QEMUStream.readWithMemory(small, mostByteCount: 3 * 4096 - 1) }
    #expect(try QEMUStream.readWithMemory(small, mostByteCount: 3 * 4096).memory.byteCount == 3 * 4096)
  }

  @Test("A length or count that cannot be is refused before anything is made room for")
  func lengths() throws {
    var blocks = SyntheticStream()
    blocks.memory(pages: 1 << 40) { _ in }
    #expect(try refusal(blocks.bytes).description.contains("where at most"))
    var description = SyntheticStream()
    description.bytes += [0, 6, 0xFF, 0xFF, 0xFF, 0xFF]
    #expect(try refusal(description.bytes).description.contains("section description, field length"))
    var machine = SyntheticStream()
    machine.bytes.replaceSubrange(9..<13, with: [0x7F, 0, 0, 0])
    #expect(try refusal(machine.bytes).description.contains("section configuration, field machine, byte 9"))
    var queues = SyntheticStream()
    var balloon = SyntheticStream.balloon
    balloon.replaceSubrange(32..<36, with: [0, 0, 4, 1])
    queues.virtio("virtio-mmio@0/virtio-balloon", balloon)
    queues.end()
    #expect(try refusal(queues.bytes).description.contains("field queueCount"))
  }

  @Test("Sections that begin twice, go on without beginning or never end are refused")
  func sections() throws {
    var twice = SyntheticStream()
    twice.section("clock", fields: "", [])
    twice.section("clock", fields: "", [])
    #expect(try refusal(twice.bytes).description.contains("a second section clock"))
    var stray = SyntheticStream()
    stray.bytes += [2, 0, 0, 0, 9]
    #expect(try refusal(stray.bytes).description.contains("the section 9, which has not begun"))
    var open = SyntheticStream()
    open.bytes += [1, 0, 0, 0, 9]
    open.put(name: "log")
    open.bytes += [0, 0, 0, 0, 0, 0, 0, 1, 0x7E, 0, 0, 0, 9, 0]
    #expect(try refusal(open.bytes).description.contains("the section log has not ended"))
  }

  @Test("Postcopy and other ways of sending are refused by their name")
  func commands() throws {
    for (number, name) in [(UInt16(3), "postcopy"), (7, "packaged"), (99, "command 99")] {
      var stream = SyntheticStream()
      stream.bytes.append(8)
      stream.put16(number)
      stream.put16(0)
      #expect(try refusal(stream.bytes).description.contains(name))
    }
    var fine = SyntheticStream()
    fine.bytes += [8, 0, 2, 0, 4, 1, 2, 3, 4]
    fine.end()
    #expect(try QEMUStream.read(fine.bytes).sections.isEmpty)
  }

  @Test("A description that tells something else than the sections is refused")
  func descriptions() throws {
    var longer = SyntheticStream()
    longer.section("clock", fields: "{\"name\": \"ticks\", \"type\": \"uint64\", \"size\": 8}", [1, 2, 3, 4])
    longer.end()
    #expect(try refusal(longer.bytes).description.contains("section clock, field ticks"))
    var shorter = SyntheticStream()
    shorter.section("clock", fields: "{\"name\": \"ticks\", \"type\": \"uint16\", \"size\": 2}", [1, 2, 3, 4])
    shorter.end()
    #expect(try refusal(shorter.bytes).description.contains("2 bytes more"))
    var endless = SyntheticStream()
    endless.section(
      "clock", fields: "{\"name\": \"x\", \"type\": \"y\", \"size\": 0, \"array_len\": 9223372036854775807}", [])
    endless.end()
    #expect(try refusal(endless.bytes).description.contains("an array of"))
    var deep = SyntheticStream()
    let text = String(repeating: "[", count: 100_000)
    deep.bytes += [0, 6]
    deep.put32(UInt32(text.utf8.count))
    deep.bytes += Array(text.utf8)
    #expect(try refusal(deep.bytes).description.contains("nested too deep"))
  }

  /// A field that holds so many others of size 0 in each of so many elements of a byte each.
  private func hollow(elements: Int, inner: String, name: String = "hollow") -> String {
    """
    {"name": "\(name)", "type": "struct", "size": 1, "array_len": \(elements), "struct": {"fields": [
      \(inner), {"name": "byte", "type": "uint8", "size": 1}
    ]}}
    """
  }

  /// A structure of size 0 that holds `count` structures of size 0.
  private func empty(_ count: Int) -> String {
    let inner = "{\"name\": \"e\", \"type\": \"struct\", \"size\": 0, \"struct\": {\"fields\": []}}"
    let list = Array(repeating: inner, count: count).joined(separator: ", ")
    return "{\"name\": \"e\", \"type\": \"struct\", \"size\": 0, \"struct\": {\"fields\": [\(list)]}}"
  }

  @Test("A description that asks for more looks than a stream may cost is refused, though it finds few fields or none")
  func visits() throws {
    var stream = SyntheticStream()
    let body = [UInt8](repeating: 1, count: 4096)
    stream.section("clock", fields: hollow(elements: 4096, inner: empty(1000)), body)
    stream.end()
    let error = try refusal(stream.bytes)
    guard case .beyondLimit(let place, let value, let limit) = error else {
      Issue.record(error)
      return
    }
    #expect(place.section == "clock" && place.field.hasPrefix("hollow[1045]"))
    #expect(limit == UInt64(StreamLimits.descriptionVisitCount) && value == limit + 1)
  }

  @Test("Looks count for the whole stream and not for each section")
  func visitsTogether() throws {
    let body = [UInt8](repeating: 1, count: 512)
    func stream(sections: Int) -> [UInt8] {
      var stream = SyntheticStream()
      for index in 0..<sections {
        stream.section("clock\(index)", fields: hollow(elements: 512, inner: empty(1000)), body)
      }
      stream.end()
      return stream.bytes
    }
    #expect(try QEMUStream.read(stream(sections: 2)).sections.count == 2)
    #expect(try refusal(stream(sections: 3)).description.contains("section clock2, field hollow["))
  }

  @Test("Names that a description repeats in each element are counted by their length")
  func names() throws {
    var stream = SyntheticStream()
    let body = [UInt8](repeating: 1, count: 1024)
    let name = String(repeating: "n", count: 100_000)
    stream.section("clock", fields: hollow(elements: 1024, inner: empty(0), name: name), body)
    stream.end()
    #expect(try refusal(stream.bytes).description.contains("where at most \(StreamLimits.descriptionNameByteCount)"))
  }

  @Test("An array of elements without a byte is refused, unless it is empty")
  func hollowArrays() throws {
    func stream(count: Int) -> [UInt8] {
      var stream = SyntheticStream()
      let fields = "{\"name\": \"x\", \"type\": \"y\", \"size\": 0, \"array_len\": \(count)}"
      stream.section("clock", fields: fields, [])
      stream.end()
      return stream.bytes
    }
    #expect(try refusal(stream(count: 1)).description.contains("field x, byte"))
    #expect(try refusal(stream(count: 1)).description.contains("elements without a byte"))
    #expect(try QEMUStream.read(stream(count: 0)).sections.count == 1)
  }

  @Test("A virtio section with something unknown in it is refused by name")
  func subsections() throws {
    var stream = SyntheticStream()
    var unknown = SyntheticStream()
    unknown.bytes = SyntheticStream.balloon + [5]
    unknown.put(name: "virtio/moods")
    unknown.put32(1)
    stream.virtio("virtio-mmio@0/virtio-balloon", unknown.bytes)
    stream.end()
    #expect(try refusal(stream.bytes).description.contains("the subsection virtio/moods is not supported"))
    var newer = SyntheticStream()
    newer.virtio("virtio-mmio@0/virtio-balloon", version: 2, SyntheticStream.balloon)
    newer.end()
    #expect(try refusal(newer.bytes).description.contains("version 2, and 1 is known"))
  }
}
