import QEMUStream

/// Writes a stream by hand, right or wrong: its own layout, so that a wrong one of the reader's does not pass.
struct SyntheticStream {
  var bytes: [UInt8] = []
  private var devices: [String] = []
  private var nextID: UInt32 = 0

  init(machine: String = "microvm") {
    put32(0x5145_564D)
    put32(3)
    bytes.append(7)
    put32(UInt32(machine.utf8.count))
    bytes += Array(machine.utf8)
  }

  mutating func put16(_ value: UInt16) { bytes += [UInt8(value >> 8), UInt8(value & 0xFF)] }
  mutating func put32(_ value: UInt32) {
    put16(UInt16(value >> 16))
    put16(UInt16(value & 0xFFFF))
  }
  mutating func put64(_ value: UInt64) {
    put32(UInt32(value >> 32))
    put32(UInt32(value & 0xFFFF_FFFF))
  }
  mutating func put(name: String) { bytes += [UInt8(name.utf8.count)] + Array(name.utf8) }

  /// The memory: one block of so many pages, and whatever `pages` writes.
  mutating func memory(pages count: UInt64, name: String = "microvm.ram", _ pages: (inout SyntheticStream) -> Void) {
    let id = nextID
    nextID += 1
    bytes.append(1)
    put32(id)
    put(name: "ram")
    put32(0)
    put32(4)
    put64(count * 4096 | 4)
    put(name: name)
    put64(count * 4096)
    put64(0x10)
    footer(id)
    bytes.append(3)
    put32(id)
    pages(&self)
    put64(0x10)
    footer(id)
  }

  /// Where the header of the pages stands that `mappedMemory` has written.
  private(set) var mappedHeader = 0

  /// The memory as `mapped-ram` has it: a byte that fills each page, or nil for one that is left out.
  mutating func mappedMemory(_ pages: [UInt8?]) {
    bytes.append(5)
    put(name: "configuration/capabilities")
    put32(1)
    put32(1)
    put(name: "mapped-ram")
    nextID += 1
    bytes += [1, 0, 0, 0, 0]
    put(name: "ram")
    put32(0)
    put32(4)
    put64(UInt64(pages.count) * 4096 | 4)
    put(name: "microvm.ram")
    put64(UInt64(pages.count) * 4096)
    mappedHeader = bytes.count
    put32(1)
    put64(4096)
    put64(UInt64(bytes.count) + 16)
    put64(8192)
    bytes += [
      pages.enumerated().reduce(UInt8(0)) { $0 | ($1.element == nil ? 0 : 1 << $1.offset) }, 0, 0, 0, 0, 0, 0, 0,
    ]
    bytes += [UInt8](repeating: 0, count: 8192 - bytes.count)
    for fill in pages { bytes += [UInt8](repeating: fill ?? 0, count: 4096) }
    put64(0x10)
    footer(0)
    bytes += [3, 0, 0, 0, 0]
    put64(0x10)
    footer(0)
  }

  mutating func zeroPage(_ number: UInt64, block: String? = nil, fill: UInt8 = 0) {
    page(number, flag: 2, block: block)
    bytes.append(fill)
  }

  mutating func wholePage(_ number: UInt64, block: String? = nil, fill: UInt8) {
    page(number, flag: 8, block: block)
    bytes += [UInt8](repeating: fill, count: 4096)
  }

  mutating func page(_ number: UInt64, flag: UInt64, block: String?) {
    put64(number * 4096 | flag | (block == nil ? 0x20 : 0))
    if let block { put(name: block) }
  }

  mutating func footer(_ id: UInt32) {
    bytes.append(0x7E)
    put32(id)
  }

  /// A whole section and its description; the fields are JSON.
  mutating func section(_ name: String, version: UInt32 = 1, fields: String, _ body: [UInt8]) {
    let id = nextID
    nextID += 1
    bytes.append(4)
    put32(id)
    put(name: name)
    put32(0)
    put32(version)
    bytes += body
    footer(id)
    devices.append(
      "{\"name\": \"\(name)\", \"instance_id\": 0, \"vmsd_name\": \"x\", \"version\": \(version), \"fields\": [\(fields)]}"
    )
  }

  mutating func virtio(_ name: String, version: UInt32 = 1, _ body: [UInt8]) {
    let field = "{\"name\": \"virtio\", \"type\": \"virtio\", \"size\": \(body.count)}"
    section(name, version: version, fields: field, body)
  }

  mutating func end(described: Bool = true) {
    bytes.append(0)
    guard described else { return }
    let text = "{\"page_size\": 4096, \"devices\": [\(devices.joined(separator: ", "))]}"
    bytes.append(6)
    put32(UInt32(text.utf8.count))
    bytes += Array(text.utf8)
  }

  /// A small stream of a machine with a clock and a balloon of a driver before virtio 1.0, over MMIO.
  static var small: SyntheticStream {
    var stream = SyntheticStream()
    stream.memory(pages: 3) {
      $0.zeroPage(0, block: "microvm.ram")
      $0.zeroPage(1)
      $0.zeroPage(2)
    }
    stream.section(
      "clock", fields: "{\"name\": \"ticks\", \"type\": \"uint64\", \"size\": 8}", [1, 2, 3, 4, 5, 6, 7, 8])
    stream.virtio("virtio-mmio@00000000feb02e00/virtio-balloon", balloon)
    stream.end()
    return stream
  }

  /// The balloon's body, without the arrays that only newer devices have.
  static var balloon: [UInt8] {
    var body = SyntheticStream()
    body.bytes = []
    for word: UInt32 in [0, 0, 12] { body.put32(word) }
    body.bytes += [0, 0]
    body.put16(0)
    body.put32(0)
    body.put32(8)
    body.bytes += [UInt8](repeating: 0, count: 8)
    body.put32(1)
    body.put32(128)
    body.put32(4096)
    body.put64(0)
    body.put16(0)
    body.put32(7)
    body.put32(5)
    return body.bytes
  }
}
