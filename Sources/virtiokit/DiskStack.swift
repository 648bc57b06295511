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
    if command.format == nil, try looksLikeQcow2(image) { throw CommandError.looksLikeQcow2(image) }
    if let overlay = command.overlay { return try openOverlay(overlay, of: image, command.format ?? .raw) }
    return try naming(image) { () throws(StoreError) in
      switch command.format ?? .raw {
      case .raw: try FileStore(path: image, isReadOnly: command.isReadOnly, unbuffered: command.isDirect)
      case .qcow2: try Qcow2Store(path: image, isReadOnly: command.isReadOnly)
      }
    }
  }

  /// Says which image it is that something is wrong with.
  private static func naming<Result>(
    _ path: String, _ body: () throws(StoreError) -> Result
  ) throws(CommandError) -> Result {
    do throws(StoreError) {
      return try body()
    } catch {
      throw .image(path, error)
    }
  }

  /// A guest that is given such an image as it stands sees nothing of its disk, and soon destroys it.
  private static func looksLikeQcow2(_ path: String) throws(CommandError) -> Bool {
    do throws(LinuxError) {
      let file = try FileDescriptor.open(path, waits: false)
      guard [.regularFile, .blockDevice].contains(try file.status.kind) else { return false }
      return try file.readBytes(upTo: 4, at: 0) == Array("QFI".utf8) + [0xfb]
    } catch {
      throw .image(path, .system(error))
    }
  }

  /// An overlay that is there already goes on with what it holds.
  private static func openOverlay(_ path: String, of image: String, _ format: ImageFormat) throws -> Qcow2Store {
    let full = try FileDescriptor.fullPath(of: image)
    let overlay = try naming(path) { () throws(StoreError) in
      do throws(StoreError) {
        let kind: Qcow2BackingFile.Format = format == .raw ? .raw : .qcow2
        try Qcow2Store.create(path: path, backing: Qcow2BackingFile(path: full, format: kind))
      } catch {
        guard error.isFileThere else { throw error }
      }
      return try Qcow2Store(path: path)
    }
    guard let backing = overlay.backingPath, try FileDescriptor.fullPath(of: backing) == full else {
      throw CommandError.overlayOfAnother(path, standsOn: overlay.backingPath, image: image)
    }
    return overlay
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
