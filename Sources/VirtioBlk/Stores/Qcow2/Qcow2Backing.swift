/// The image that another one stands on, for what that one does not have.
enum Qcow2Backing: Sendable {
  case raw(ImageFile)
  case qcow2(Qcow2Store)

  /// Opens the image that the header at `path` names, if it names one.
  init?(of header: Qcow2Header, at path: String, above: [String] = []) throws(StoreError) {
    guard let place = try Self.path(of: header, at: path) else { return nil }
    let chain = above + [path]
    guard !chain.contains(place) else { throw .image(.backingLoop(place)) }
    guard chain.count < Qcow2Store.largestChainDepth else {
      throw .image(.backingDepth(limit: Qcow2Store.largestChainDepth))
    }
    guard let format = header.backingFormat else { throw .image(.backingFormatMissing(place)) }
    do throws(StoreError) {
      let file = try ImageFile(path: place, isWritable: false)
      switch format {
      case "raw": self = .raw(file)
      case "qcow2": self = .qcow2(try Qcow2Store(file, path: place, isReadOnly: true, above: chain))
      default: throw .image(.backingFormat(format))
      }
    } catch {
      switch error {
      case .image(.backingLoop), .image(.backingDepth), .image(.backingFormat), .image(.backing): throw error
      default: throw .image(.backing(place, error))
      }
    }
  }

  /// The path that the header of `image` names, if any; a relative one begins where the image is. Names that begin with a
  /// protocol are not paths, nor are descriptions.
  static func path(of header: Qcow2Header, at image: String) throws(StoreError) -> String? {
    guard let name = header.backingName else { return nil }
    if name.hasPrefix("/") { return name }
    let path = name.hasPrefix("file:") ? String(name.dropFirst(5)) : name
    guard !path.isEmpty, !path.prefix(while: { $0 != "/" }).contains(":"), !path.contains("\0") else {
      throw .image(.backingName(name))
    }
    if path.hasPrefix("/") { return path }
    guard let slash = image.lastIndex(of: "/") else { return path }
    return image[...slash] + path
  }

  /// How much of the disk it has.
  var byteCount: UInt64 {
    switch self {
    case .raw(let file): file.byteCount
    case .qcow2(let store): store.byteCount
    }
  }

  /// Reads from it; what is beyond its end is zeros.
  /// - Returns: false when that would have to wait and may not.
  func read<Target: ReadTarget & ~Copyable>(
    _ part: Range<Int>, of target: inout Target, at place: UInt64, mayWait: Bool
  ) throws(StoreError) -> Bool {
    let available = place < byteCount ? byteCount - place : 0
    let end = part.lowerBound + Int(min(UInt64(part.count), available))
    if end < part.upperBound { try target.zero(end..<part.upperBound) }
    guard end > part.lowerBound else { return true }
    switch self {
    case .raw(let file): return try target.read(part.lowerBound..<end, from: file, at: place, mayWait: mayWait)
    case .qcow2(let store): return try store.read(part.lowerBound..<end, of: &target, at: place, mayWait: mayWait)
    }
  }

  /// Keeps it from being written, by those who lock what they write.
  func setExclusive(_ isExclusive: Bool) throws(StoreError) {
    switch self {
    case .raw(let file): try file.setExclusive(isExclusive, isWriter: false)
    case .qcow2(let store): try store.setExclusive(isExclusive)
    }
  }
}
