import GuestRAM

/// How the chains of a measurement look.
struct Shape: Hashable {
  var descriptorCount: Int
  var isIndirect: Bool

  static let all = [false, true].flatMap { isIndirect in
    [1, 2, 4].map { Shape(descriptorCount: $0, isIndirect: isIndirect) }
  }

  var name: String { "\(descriptorCount) \(isIndirect ? "indirect" : "direct")" }
}

/// What is done with the buffers of a chain.
enum Work: String, CaseIterable {
  /// Each buffer's address is translated, which checks it, and its first word read. After each batch the device decides
  /// by event indices whether to interrupt, and asks for a kick.
  case reading
  /// Nothing: the chain is only walked, and nobody is told.
  case walking

  var title: String {
    switch self {
    case .reading: "each buffer translated and its first word read; event indices"
    case .walking: "buffers untouched, nobody told: the walk alone"
    }
  }
}

/// A ring of 256 that is filled once; making a batch available is then one store of the index, so that what is measured
/// is the device's side.
struct BenchmarkRing: ~Copyable {
  static let size: UInt16 = 256
  static let batch: UInt16 = 32

  static let descriptorTable = GuestAddress(0x1000)
  static let availableRing = GuestAddress(0x2000)
  static let usedRing = GuestAddress(0x3000)
  static let indirectTables: UInt64 = 0x10000
  static let buffers: UInt64 = 0x100000
  /// So far apart that no two buffers share a place in the processor's cache, and all of them fit into it.
  static let bufferStride: UInt64 = 576
  static let memoryByteCount: UInt64 = 16 << 20

  private let available: MemoryWindow
  private var index: UInt16 = 0

  init(_ shape: Shape, memory: GuestMemory) throws {
    try Self.fill(shape, memory)
    available = try MemoryWindow(of: memory, at: Self.availableRing, byteCount: 4, alignment: 2)
  }

  private static func fill(_ shape: Shape, _ memory: GuestMemory) throws {
    let count = shape.descriptorCount
    for entry in 0..<Int(size) {
      if shape.isIndirect {
        let table = indirectTables + UInt64(entry * 16 * count)
        for position in 0..<count {
          try write(
            memory, descriptor: position, of: GuestAddress(table), hasNext: position + 1 < count, next: position + 1)
        }
        let pointer = GuestAddress(descriptorTable.rawValue + UInt64(entry * 16))
        try memory.write(table, at: pointer)
        try memory.write(UInt64(16 * count) | 4 << 32, at: GuestAddress(pointer.rawValue + 8))
        try write(memory, head: entry, slot: entry)
      } else {
        let next = (entry + 1) % Int(size)
        try write(memory, descriptor: entry, of: descriptorTable, hasNext: entry % count != count - 1, next: next)
        try write(memory, head: entry * count % Int(size), slot: entry)
      }
    }
    try memory.publish(0, at: GuestAddress(availableRing.rawValue + 2))
    try memory.publish(0, at: GuestAddress(usedRing.rawValue + 2))
  }

  /// Makes the next batch available: the driver's part, which is to cost as little as in the floors.
  @inline(__always)
  mutating func refill() {
    index &+= Self.batch
    available.publish(index, at: 2)
  }

  private static func write(
    _ memory: GuestMemory, descriptor: Int, of table: GuestAddress, hasNext: Bool, next: Int
  ) throws {
    let address = GuestAddress(table.rawValue + UInt64(descriptor * 16))
    try memory.write(buffers + UInt64(descriptor) * bufferStride, at: address)
    let word = UInt64(512) | (hasNext ? 1 << 32 : 0) | UInt64(hasNext ? next : 0) << 48
    try memory.write(word, at: GuestAddress(address.rawValue + 8))
  }

  private static func write(_ memory: GuestMemory, head: Int, slot: Int) throws {
    try memory.write(UInt16(head), at: GuestAddress(availableRing.rawValue + 4 + UInt64(slot * 2)))
  }
}
