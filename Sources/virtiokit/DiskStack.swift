import LinuxIO
import Options
import VirtioBlk

/// What an image is.
enum ImageFormat: String, CaseIterable, OptionValue {
  case raw, qcow2
}

/// A disk's image, and what stands between it and the guest.
///
/// The brake and the faults are there from the start, since an operator may want them later; neither costs a request
/// anything while it does nothing.
struct DiskStack {
  let throttle: ThrottledStore
  let faults: FaultyStore

  var store: any BlockStore { faults }

  init(_ command: BlkCommand) throws {
    throttle = ThrottledStore(try Self.image(command), limits: command.throttleLimits)
    faults = FaultyStore(throttle, rules: [])
  }

  private static func image(_ command: BlkCommand) throws -> any BlockStore {
    if let memory = command.memory { return try FileStore(inMemory: memory.bytes) }
    if let null = command.null { return try NullStore(byteCount: null.bytes) }
    let image = command.image ?? ""
    if NBDAddress.isMeant(by: image) {
      var options = NBDOptions()
      options.isReadOnly = command.isReadOnly
      options.connectionCount = command.connectionCount
      return try NBDStore(try NBDAddress(parsing: image), options: options)
    }
    if let overlay = command.overlay { return try openOverlay(overlay, of: image, command.format ?? .raw) }
    switch command.format ?? .raw {
    case .raw:
      if command.format == nil, try looksLikeQcow2(image) { throw CommandError.looksLikeQcow2(image) }
      return try FileStore(path: image, isReadOnly: command.isReadOnly, unbuffered: command.isDirect)
    case .qcow2: return try Qcow2Store(path: image, isReadOnly: command.isReadOnly)
    }
  }

  /// A guest that is given such an image as it stands sees nothing of its disk, and soon destroys it.
  private static func looksLikeQcow2(_ path: String) throws(LinuxError) -> Bool {
    try FileDescriptor.open(path).readBytes(upTo: 4, at: 0) == Array("QFI".utf8) + [0xfb]
  }

  /// An overlay that is there already goes on with what it holds.
  private static func openOverlay(_ path: String, of image: String, _ format: ImageFormat) throws -> Qcow2Store {
    let full = try FileDescriptor.fullPath(of: image)
    do throws(StoreError) {
      let kind: Qcow2BackingFile.Format = format == .raw ? .raw : .qcow2
      try Qcow2Store.create(path: path, backing: Qcow2BackingFile(path: full, format: kind))
    } catch {
      guard error.isFileThere else { throw error }
    }
    return try Qcow2Store(path: path)
  }
}

/// How much of what a disk lets through, in an operator's words; 0 is without limit.
struct DiskThrottle: Equatable {
  var operationsPerSecond: UInt64 = 0
  var bytesPerSecond: UInt64 = 0

  var limits: ThrottleLimits {
    ThrottleLimits(all: .init(operations: Self.rate(operationsPerSecond), bytes: Self.rate(bytesPerSecond)))
  }

  private static func rate(_ perSecond: UInt64) -> TokenBucket.Rate? {
    perSecond == 0 ? nil : TokenBucket.Rate(perSecond: perSecond)
  }
}

/// What is to fail of a disk.
enum DiskFault: String, CaseIterable {
  case nothing, reads, writes, flushes, everything

  /// - Parameter count: how many operations fail; all when nil.
  func rules(count: UInt64?) -> [FaultRule] {
    let kinds: Set<FaultRule.Kind> =
      switch self {
      case .nothing: []
      case .reads: [.read]
      case .writes: [.write, .discard, .writeZeroes]
      case .flushes: [.flush]
      case .everything: Set(FaultRule.Kind.allCases)
      }
    return kinds.isEmpty ? [] : [FaultRule(.failure, of: kinds, count.map { .first($0) } ?? .all)]
  }
}
