public import DeviceState
public import GuestRAM
import Virtqueue

/// As much of a guest's memory as a saved device needs to go on with its rings: the rings themselves, and what the driver
/// has made available in them. All else reads as zeros.
///
/// It is for tests and for looking at. A guest that moves takes all its memory with it, by other ways.
public struct MemoryImage: SavedState {
  public static let section = "guest-memory"
  public static let version = 1
  /// The most bytes that are taken; a driver may have made any amount available.
  public static let mostBytes = 8 << 20
  /// Fewer zeros than these, between other bytes, are kept: a run costs more.
  private static let leastGap = 32

  /// A region of the guest's memory map.
  public struct Region: StateRecord {
    public var start: UInt64 = 0
    public var byteCount: UInt64 = 0

    public init() {}

    public mutating func code(with coder: inout some StateCoder) throws(StateError) {
      try coder.field("start", &start)
      try coder.field("byteCount", &byteCount)
    }
  }

  /// Bytes that follow each other.
  public struct Run: StateRecord {
    public var address: UInt64 = 0
    public var bytes: [UInt8] = []

    public init() {}

    public mutating func code(with coder: inout some StateCoder) throws(StateError) {
      try coder.field("address", &address)
      try coder.field("bytes", &bytes)
    }
  }

  public var regions: [Region] = []
  public var runs: [Run] = []
  /// Whether there was room for all.
  public var isWhole = true

  public init() {}

  public mutating func code(with coder: inout some StateCoder) throws(StateError) {
    try coder.field("regions", &regions)
    try coder.field("runs", &runs)
    try coder.field("isWhole", &isWhole)
  }
}

extension MemoryImage {
  /// Takes ranges of memory, which may overlap; the first are taken if there is no room for all.
  public init(of memory: GuestMemory, _ ranges: [GuestRange]) throws(GuestMemoryError) {
    regions = memory.regions.map { region in
      var copy = Region()
      copy.start = region.range.start.rawValue
      copy.byteCount = region.range.byteCount
      return copy
    }
    var room = UInt64(Self.mostBytes)
    var taken: [GuestRange] = []
    for range in ranges {
      guard range.byteCount <= room else {
        isWhole = false
        continue
      }
      room -= range.byteCount
      taken.append(range)
    }
    for range in Self.merged(taken) { try take(memory.readBytes(Int(range.byteCount), at: range.start), range.start) }
  }

  private static func merged(_ ranges: [GuestRange]) -> [GuestRange] {
    var merged: [GuestRange] = []
    for range in ranges.sorted(by: { $0.start < $1.start }) where range.byteCount > 0 {
      guard let last = merged.last, range.start.rawValue - last.start.rawValue <= last.byteCount else {
        merged.append(range)
        continue
      }
      let byteCount = max(last.byteCount, range.start.rawValue - last.start.rawValue + range.byteCount)
      merged[merged.count - 1] = GuestRange(start: last.start, byteCount: byteCount)
    }
    return merged
  }

  /// Adds what of the bytes is not zero.
  private mutating func take(_ bytes: [UInt8], _ start: GuestAddress) {
    var first: Int?
    var last = 0
    for index in bytes.indices where bytes[index] != 0 {
      if let begun = first, index - last > Self.leastGap {
        append(bytes[begun...last], start, begun)
        first = index
      }
      first = first ?? index
      last = index
    }
    if let first { append(bytes[first...last], start, first) }
  }

  private mutating func append(_ bytes: ArraySlice<UInt8>, _ start: GuestAddress, _ offset: Int) {
    guard runs.count < StateLimits.elementCount else {
      isWhole = false
      return
    }
    var run = Run()
    run.address = start.rawValue + UInt64(offset)
    run.bytes = Array(bytes)
    runs.append(run)
  }

  /// New memory with the same map and these bytes.
  public func makeMemory() throws(GuestMemoryError) -> GuestMemory {
    var made: [MemoryRegion] = []
    for region in regions.prefix(GuestMemory.mostRegions + 1) {
      made.append(try MemoryRegion(memoryFile: region.byteCount, start: GuestAddress(region.start)))
    }
    let memory = try GuestMemory(regions: made)
    for run in runs { try memory.write(bytes: run.bytes, at: GuestAddress(run.address)) }
    return memory
  }
}

extension DeviceHost where Device: ~Copyable {
  /// Adds to a snapshot, in an optional section, what of the guest's memory is needed to go on with the device's rings.
  /// The device must be paused, with no chain in flight, and have memory.
  public func saveMemory(into snapshot: inout Snapshot, instance: String = "") throws(HostError) {
    guard isPaused else { throw .notPaused }
    guard let memory = queues.attached else { throw .noMemory }
    let state = try hostState
    let rings = state.queues.filter(\.isRunning).map { RingSurvey($0, state.features, memory) }
    // The rings themselves first, should there not be room for all.
    let ranges = rings.flatMap(\.ringRanges) + rings.flatMap(\.bufferRanges)
    let image: MemoryImage
    do throws(GuestMemoryError) { image = try MemoryImage(of: memory, ranges) } catch {
      throw .virtqueue(.memory(error))
    }
    do throws(StateError) { try snapshot.add(image, optional: true, instance: instance) } catch { throw .state(error) }
  }
}
