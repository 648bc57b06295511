import GuestRAM
import LinuxIO

/// Writes the parts of a stream, a bounded piece of which it collects.
struct StreamWriter {
  static let pieceByteCount = 1 << 20

  let stream: QEMUStream
  let layout: RAMLayout
  private let ramID: UInt32
  private let memory: GuestMemory
  private var bytes: [UInt8] = []
  private var lastBlock: Int?

  init(_ stream: QEMUStream, _ ramID: UInt32, _ memory: GuestMemory, _ layout: RAMLayout) {
    self.stream = stream
    self.layout = layout
    self.ramID = ramID
    self.memory = memory
  }

  // MARK: - Bytes

  mutating func put(_ more: [UInt8]) { bytes += more }

  mutating func put<T: FixedWidthInteger>(_ value: T) {
    for place in stride(from: T.bitWidth - 8, through: 0, by: -8) {
      bytes.append(UInt8(truncatingIfNeeded: value >> place))
    }
  }

  mutating func put(name: String) {
    put(UInt8(truncatingIfNeeded: name.utf8.count))
    put(Array(name.utf8))
  }

  /// Hands on what has been collected, if it is enough.
  mutating func drain(to output: borrowing FileDescriptor) throws(QEMUStreamError) {
    if bytes.count >= Self.pieceByteCount { try finish(to: output) }
  }

  /// Hands on what has been collected.
  mutating func finish(to output: borrowing FileDescriptor) throws(QEMUStreamError) {
    do throws(LinuxError) { try output.writeAll(bytes) } catch { throw .system(error) }
    bytes.removeAll(keepingCapacity: true)
  }

  // MARK: - Memory

  /// The memory's first part, which lists the blocks, and the beginning of its last, in which all pages are.
  mutating func putBlocks() {
    put(StreamPart.start)
    put(ramID)
    put(name: "ram")
    put(UInt32(0))
    put(UInt32(4))
    put(stream.blocks.reduce(0) { $0 + $1.byteCount } | RAMFlag.sizes)
    for block in stream.blocks {
      put(name: block.name)
      put(block.byteCount)
    }
    put(RAMFlag.end)
    putFooter(ramID)
    put(StreamPart.last)
    put(ramID)
  }

  mutating func put(_ page: RAMPage) {
    let flag =
      switch page.content {
      case .filled: RAMFlag.zero
      case .bytes: RAMFlag.page
      }
    put(page.offset | flag | (page.block == lastBlock ? RAMFlag.sameBlock : 0))
    if page.block != lastBlock { put(name: stream.blocks[page.block].name) }
    lastBlock = page.block
    switch page.content {
    case .filled(let byte): put(byte)
    case .bytes(let content): put(content)
    }
  }

  /// The guest's memory, and the end of the memory's last part.
  mutating func putGuestMemory(to output: borrowing FileDescriptor) throws(QEMUStreamError) {
    guard let block = stream.blocks.firstIndex(where: { $0.name == layout.block }) else {
      throw .missing("memory block \(layout.block.printable)")
    }
    let step = UInt64(RAMPage.byteCount)
    for offset in stride(from: 0, to: stream.blocks[block].byteCount, by: Int(step)) {
      put(RAMPage(block: block, offset: offset, content: try content(of: offset)))
      try drain(to: output)
    }
    put(RAMFlag.end)
    putFooter(ramID)
  }

  private func content(of offset: UInt64) throws(QEMUStreamError) -> RAMPage.Content {
    guard let address = layout.address(of: offset) else { return .filled(0) }
    do throws(GuestMemoryError) {
      if try memory.isZero(GuestRange(start: address, byteCount: UInt64(RAMPage.byteCount))) { return .filled(0) }
      return .bytes(try memory.readBytes(RAMPage.byteCount, at: address))
    } catch {
      throw .memory(error)
    }
  }

  // MARK: - Sections

  mutating func put(_ section: StreamSection, _ body: [UInt8]) {
    switch section.kind {
    case .full, .start:
      put(section.kind == .full ? StreamPart.full : StreamPart.start)
      put(section.id)
      put(name: section.name)
      put(section.instance)
      put(section.version)
    case .part, .end:
      put(section.kind == .part ? StreamPart.more : StreamPart.last)
      put(section.id)
    }
    put(body)
    putFooter(section.id)
  }

  private mutating func putFooter(_ id: UInt32) {
    put(StreamPart.footer)
    put(id)
  }

  /// The description, with the lengths of the devices that have changed.
  mutating func putDescription(_ changed: [Int: [UInt8]]) {
    guard let description = stream.description else { return }
    var text = description.text
    let sizes = changed.compactMap { index, body in
      description.sizePlace(of: stream.sections[index]).map { (place: $0, size: body.count) }
    }
    for (place, size) in sizes.sorted(by: { $0.place.lowerBound > $1.place.lowerBound }) {
      text.replaceSubrange(place, with: Array("\(size)".utf8))
    }
    put(StreamPart.description)
    put(UInt32(truncatingIfNeeded: text.count))
    put(text)
  }
}
