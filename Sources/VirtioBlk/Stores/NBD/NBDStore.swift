import Synchronization

/// How an `NBDStore` treats its server.
public struct NBDOptions: Equatable, Sendable {
  /// Refuses whatever changes the export, even where the server allows it.
  public var isReadOnly = false
  /// How long a request may stay without its answer before the connection counts as lost.
  public var requestLimit = Duration.seconds(30)
  /// How long a request waits for a lost connection to be made again before it fails.
  public var reconnectLimit = Duration.seconds(60)
  /// How many connections share the work, 1...16; one where the server does not allow more.
  public var connectionCount = 1

  public init() {}
}

/// A disk that an NBD server keeps.
///
/// Requests of many threads are in flight at once. When the connection is lost, those without an answer are made again on
/// the next one, and their callers only notice that it took longer. What a server said was written and lost before a flush
/// was answered is lost, as with any disk that has a cache. Should the old connection still be alive somewhere, a server
/// may carry out a write of it late, after the same write of the new one: the protocol has no way to prevent that.
///
/// A flush does nothing where the server knows none; writes then go through its cache if it can be told so (FUA). The
/// protocol has no locks either: `setExclusive` does nothing, and nobody is kept from opening the export elsewhere.
public final class NBDStore: BlockStore {
  /// The longest range that one request trims or zeroes, so that a slow server answers in time.
  private static let longestRange = 256 << 20
  /// How many zeros are sent at once to a server that cannot make them itself.
  private static let longestZeros = 1 << 20

  public let byteCount: UInt64
  public let isReadOnly: Bool
  public let limits: BlockLimits

  private let options: NBDOptions
  private let lanes: [NBDLane]
  private let nextLane = Atomic<Int>(0)

  /// Connects to the server, with a single attempt.
  public init(_ address: NBDAddress, options: NBDOptions = NBDOptions()) throws(StoreError) {
    let first: NBDConnection
    do {
      first = try NBDConnection(to: address, within: options.requestLimit)
    } catch {
      throw .nbd(error)
    }
    let export = first.export
    let count = export.flags.contains(.multipleConnections) ? min(max(options.connectionCount, 1), 16) : 1
    lanes = (0..<count).map { NBDLane(address, options, export, $0 == 0 ? first : nil) }
    byteCount = export.byteCount
    isReadOnly = options.isReadOnly || export.flags.contains(.readOnly)
    limits = export.limits
    self.options = options
  }

  public func perform(
    _ operation: BlockOperation, _ data: inout BlockData, mayWait: Bool
  ) throws(StoreError) -> Bool {
    guard mayWait else { return false }
    guard !isReadOnly || !operation.isWrite else { throw .readOnly }
    let lane = lanes[nextLane.wrappingAdd(1, ordering: .relaxed).newValue % lanes.count]
    switch operation {
    case .read(let place): try transfer(.read, at: place, &data, lane)
    case .write(let place): try transfer(.write, at: place, &data, lane)
    case .flush: try flush(lane, &data)
    case .discard(let range): try trim(range, lane, &data)
    case .writeZeroes(let range, let mayUnmap): try zero(range, mayUnmap: mayUnmap, lane, &data)
    }
    return true
  }

  private func transfer(
    _ command: NBDCommand, at place: UInt64, _ data: inout BlockData, _ lane: NBDLane
  ) throws(StoreError) {
    let total = data.byteCount
    try check(place, UInt64(total))
    try inPieces(total, lane) { (connection, done) throws(StoreError) in
      let part = done..<min(total, done + connection.export.maximumByteCount)
      let request = NBDRequest(
        command: command, flags: command == .write ? connection.export.writeFlags : [],
        offset: place + UInt64(done), byteCount: UInt32(part.count),
        payload: command == .write ? .drained(part) : .filled(part))
      try connection.exchange(request, &data, within: options.requestLimit)
      return part.count
    }
  }

  private func flush(_ lane: NBDLane, _ data: inout BlockData) throws(StoreError) {
    try lane.perform { (connection) throws(StoreError) in
      guard connection.export.flags.contains(.flush) else { return }
      let request = NBDRequest(command: .flush, offset: 0, byteCount: 0)
      try connection.exchange(request, &data, within: options.requestLimit)
    }
  }

  private func trim(_ range: Range<UInt64>, _ lane: NBDLane, _ data: inout BlockData) throws(StoreError) {
    try check(range.lowerBound, UInt64(range.count))
    try inPieces(range.count, lane) { (connection, done) throws(StoreError) in
      // Not needed any more is a hint, and a server that takes none keeps the bytes.
      guard connection.export.flags.contains(.trim) else { return range.count - done }
      let count = min(range.count - done, Self.longestRange)
      let request = NBDRequest(
        command: .trim, flags: connection.export.writeFlags, offset: range.lowerBound + UInt64(done),
        byteCount: UInt32(count))
      try connection.exchange(request, &data, within: options.requestLimit)
      return count
    }
  }

  private func zero(
    _ range: Range<UInt64>, mayUnmap: Bool, _ lane: NBDLane, _ data: inout BlockData
  ) throws(StoreError) {
    try check(range.lowerBound, UInt64(range.count))
    try inPieces(range.count, lane) { (connection, done) throws(StoreError) in
      let request = connection.export.zeroing(
        at: range.lowerBound + UInt64(done), atMost: range.count - done, mayUnmap: mayUnmap,
        longest: (range: Self.longestRange, zeros: Self.longestZeros))
      try connection.exchange(request, &data, within: options.requestLimit)
      return Int(request.byteCount)
    }
  }

  /// Makes requests until all is done; one that has to be made again may be cut otherwise, by what the new server takes.
  /// - Parameter exchange: makes the next request, after so many bytes, and returns for how many.
  private func inPieces(
    _ byteCount: Int, _ lane: NBDLane, _ exchange: (NBDConnection, _ done: Int) throws(StoreError) -> Int
  ) throws(StoreError) {
    var done = 0
    while done < byteCount {
      try lane.perform { (connection) throws(StoreError) in
        done += try exchange(connection, done)
      }
    }
  }

  private func check(_ place: UInt64, _ length: UInt64) throws(StoreError) {
    guard place <= byteCount, length <= byteCount - place else { throw .beyondEnd(at: place, byteCount: length) }
    let block = UInt64(limits.blockByteCount)
    guard place % block == 0, length % block == 0 else {
      throw .nbd(.unaligned(at: place, byteCount: length, block: limits.blockByteCount))
    }
  }
}

extension NBDExport {
  fileprivate var limits: BlockLimits {
    var limits = BlockLimits()
    limits.blockByteCount = blockByteCount
    limits.physicalBlockByteCount = preferredByteCount
    limits.discardByteCount = preferredByteCount
    limits.canDiscard = flags.contains(.trim)
    return limits
  }

  /// What makes up for a server that cannot flush.
  fileprivate var writeFlags: NBDCommandFlags {
    flags.contains(.flush) || !flags.contains(.forceUnitAccess) ? [] : .forceUnitAccess
  }

  /// The request that zeroes the beginning of a range.
  fileprivate func zeroing(
    at place: UInt64, atMost byteCount: Int, mayUnmap: Bool, longest: (range: Int, zeros: Int)
  ) -> NBDRequest {
    guard flags.contains(.writeZeroes) else {
      let count = min(byteCount, max(longest.zeros, blockByteCount), maximumByteCount)
      return NBDRequest(
        command: .write, flags: writeFlags, offset: place, byteCount: UInt32(count), payload: .zeros(count))
    }
    return NBDRequest(
      command: .writeZeroes, flags: mayUnmap ? writeFlags : writeFlags.union(.noHole), offset: place,
      byteCount: UInt32(min(byteCount, longest.range)))
  }
}
