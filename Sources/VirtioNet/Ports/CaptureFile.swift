import LinuxIO

/// A file that Wireshark reads (pcapng), written block by block, of the ports of one thread.
public final class CaptureFile {
  /// `epb_flags`
  enum Direction: UInt32 {
    case inbound = 1
    case outbound = 2
  }

  /// Why nothing is captured any more; nil while everything is.
  public private(set) var failure: PortError?
  private let path: String
  private let file: FileDescriptor
  private let snapByteCount: Int
  private let report: (PortError) -> Void
  /// How much of the file is whole blocks.
  private var byteCount = 0
  /// Blocks to be written, and where each of them ends.
  private var blocks: [UInt8] = []
  private var ends: [Int] = []
  private var interfaceCount: UInt32 = 0

  /// - Parameters:
  ///   - path: of the file; one that is there is replaced.
  ///   - snapByteCount: how much of each frame is kept; all of it when nil.
  ///   - report: told why nothing is captured any more.
  public init(
    path: String, snapByteCount: Int? = nil, report: @escaping (PortError) -> Void = { _ in }
  ) throws(PortError) {
    self.report = report
    self.path = path
    self.snapByteCount = max(1, min(snapByteCount ?? .max, PacketBatch.largestFrameByteCount))
    blocks.reserveCapacity(512 << 10)
    ends.reserveCapacity(PacketBatch.largestCount)
    do throws(LinuxError) {
      file = try FileDescriptor.open(path, for: .writing, creating: .emptied)
      addSection()
      try writeBlocks(1)
    } catch {
      throw .system("capture \(path)", error)
    }
  }

  /// Adds an interface.
  /// - Returns: its number.
  func addInterface(_ name: String) -> UInt32 {
    addInterface(name, snapByteCount: snapByteCount == PacketBatch.largestFrameByteCount ? 0 : UInt32(snapByteCount))
    write(1)
    defer { interfaceCount += 1 }
    return interfaceCount
  }

  /// Prepares packets of a batch for `write`.
  func add(_ packets: Range<Int>, of batch: borrowing PacketBatch, _ direction: Direction, interface: UInt32) {
    let time = WallClock.now
    for index in packets { addPacket(batch.frame(index), of: batch.bytes, direction, time, interface) }
  }

  /// Writes the first of the blocks that have been prepared, and forgets the others.
  func write(_ count: Int) {
    do throws(LinuxError) {
      try writeBlocks(count)
    } catch {
      let failure = PortError.system("capture \(path)", error)
      self.failure = failure
      report(failure)
      // A block that was written in part would be found damaged. If not even this can be done, that is what remains.
      _ = try? file.truncate(toByteCount: byteCount)
    }
  }

  private func writeBlocks(_ count: Int) throws(LinuxError) {
    defer {
      blocks.removeAll(keepingCapacity: true)
      ends.removeAll(keepingCapacity: true)
    }
    guard count > 0, failure == nil else { return }
    blocks.removeLast(blocks.count - ends[count - 1])
    try file.writeAll(blocks, at: byteCount)
    byteCount += blocks.count
  }
}

/// The blocks (draft-ietf-opsawg-pcapng). All numbers are little-endian, as the section's header says.
extension CaptureFile {
  private func addSection() {
    addBlock(0x0a0d_0d0a) {
      blocks.append32(0x1a2b_3c4d)
      blocks.append16(1)
      blocks.append16(0)
      // The section's length is not known in advance.
      blocks.append32(.max)
      blocks.append32(.max)
      addOption(4, Array("VirtioKit".utf8))
      addOption(0, [])
    }
  }

  private func addInterface(_ name: String, snapByteCount: UInt32) {
    addBlock(1) {
      // LINKTYPE_ETHERNET
      blocks.append16(1)
      blocks.append16(0)
      blocks.append32(snapByteCount)
      addOption(2, Array(name.utf8.prefix(255)))
      // if_tsresol: nanoseconds
      addOption(9, [9])
      addOption(0, [])
    }
  }

  private func addPacket(
    _ frame: Range<Int>, of bytes: [UInt8], _ direction: Direction, _ time: UInt64, _ interface: UInt32
  ) {
    let kept = frame.prefix(snapByteCount)
    addBlock(6) {
      blocks.append32(interface)
      blocks.append32(UInt32(truncatingIfNeeded: time >> 32))
      blocks.append32(UInt32(truncatingIfNeeded: time))
      blocks.append32(UInt32(kept.count))
      blocks.append32(UInt32(frame.count))
      blocks.append(contentsOf: bytes[kept])
      blocks.pad()
      // epb_flags and opt_endofopt
      blocks.append16(2)
      blocks.append16(4)
      blocks.append32(direction.rawValue)
      blocks.append32(0)
    }
  }

  private func addBlock(_ kind: UInt32, _ body: () -> Void) {
    let start = blocks.count
    blocks.append32(kind)
    blocks.append32(0)
    body()
    // The length stands at both ends, so that a file can be read backwards.
    let length = UInt32(blocks.count + 4 - start)
    blocks.append32(length)
    blocks.setLittleEndian(length, at: start + 4)
    ends.append(blocks.count)
  }

  private func addOption(_ code: UInt16, _ value: [UInt8]) {
    blocks.append16(code)
    blocks.append16(UInt16(value.count))
    blocks.append(contentsOf: value)
    blocks.pad()
  }
}

extension [UInt8] {
  fileprivate mutating func append16(_ value: UInt16) {
    append(UInt8(truncatingIfNeeded: value))
    append(UInt8(truncatingIfNeeded: value >> 8))
  }

  fileprivate mutating func append32(_ value: UInt32) {
    append16(UInt16(truncatingIfNeeded: value))
    append16(UInt16(truncatingIfNeeded: value >> 16))
  }

  /// Everything in a block begins at a multiple of four bytes; so do the blocks.
  fileprivate mutating func pad() {
    while count % 4 != 0 { append(0) }
  }
}
