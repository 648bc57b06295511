import LinuxIO

/// The bytes of a stream, forward only, with a bounded piece of it in memory.
struct StreamInput: ~Copyable {
  static let pieceByteCount = 1 << 20

  private let file: FileDescriptor?
  private(set) var buffer: [UInt8]
  /// Where in the buffer the next byte is.
  private var next = 0
  /// The offset in the stream of the buffer's first byte.
  private var origin: UInt64 = 0
  private var hasEnded: Bool
  /// The section being read, for errors.
  var section = ""
  /// Everything read since it was made empty; nil while nobody wants it.
  var recorded: [UInt8]?

  init(_ file: consuming FileDescriptor) {
    self.file = consume file
    buffer = []
    hasEnded = false
  }

  init(_ bytes: [UInt8]) {
    file = nil
    buffer = bytes
    hasEnded = true
  }

  /// The offset in the stream of the next byte.
  var offset: UInt64 { origin + UInt64(next) }

  func place(_ field: String = "") -> StreamPlace { StreamPlace(section: section, field: field, offset: offset) }

  /// Makes sure that so many bytes are in the buffer.
  /// - Returns: false when the stream ends before.
  mutating func fill(_ byteCount: Int) throws(QEMUStreamError) -> Bool {
    while buffer.count - next < byteCount {
      guard !hasEnded else { return false }
      try readPiece()
    }
    return true
  }

  private mutating func readPiece() throws(QEMUStreamError) {
    let piece = try readBytes(Self.pieceByteCount)
    guard !piece.isEmpty else {
      hasEnded = true
      return
    }
    origin += UInt64(next)
    if next == buffer.count {
      buffer = piece
    } else {
      buffer.removeFirst(next)
      buffer += piece
    }
    next = 0
  }

  private func readBytes(_ byteCount: Int) throws(QEMUStreamError) -> [UInt8] {
    do throws(LinuxError) {
      return try file?.readBytes(upTo: byteCount) ?? []
    } catch {
      throw .system(error)
    }
  }

  /// Whether nothing comes any more.
  mutating func isAtEnd() throws(QEMUStreamError) -> Bool { try !fill(1) }

  // MARK: - Values

  mutating func need(_ byteCount: Int, _ field: String) throws(QEMUStreamError) {
    guard try fill(byteCount) else { throw .truncated(place(field), missing: byteCount - (buffer.count - next)) }
  }

  /// A big-endian integer.
  mutating func integer<T: FixedWidthInteger>(_: T.Type, _ field: String) throws(QEMUStreamError) -> T {
    let byteCount = T.bitWidth / 8
    try need(byteCount, field)
    var value: UInt64 = 0
    for index in next..<next + byteCount { value = value << 8 | UInt64(buffer[index]) }
    pass(byteCount)
    return T(truncatingIfNeeded: value)
  }

  /// The next byte, which stays; nil at the end.
  mutating func peek() throws(QEMUStreamError) -> UInt8? {
    try fill(1) ? buffer[next] : nil
  }

  /// The byte so many bytes ahead of the next, which must be in the buffer.
  func ahead(_ distance: Int) -> UInt8 { buffer[next + distance] }

  /// How many bytes are in the buffer.
  var buffered: Int { buffer.count - next }

  /// The caller bounds `byteCount`.
  mutating func bytes(_ byteCount: Int, _ field: String) throws(QEMUStreamError) -> [UInt8] {
    try need(byteCount, field)
    defer { pass(byteCount) }
    return Array(buffer[next..<next + byteCount])
  }

  /// Passes over bytes, however many.
  mutating func skip(_ byteCount: UInt64, _ field: String) throws(QEMUStreamError) {
    var left = byteCount
    while left > 0 {
      try need(1, field)
      let step = min(left, UInt64(buffered))
      pass(Int(step))
      left -= step
    }
  }

  private mutating func pass(_ byteCount: Int) {
    recorded? += buffer[next..<next + byteCount]
    next += byteCount
  }

  /// A name: one byte of length, and that many bytes of UTF-8.
  mutating func name(_ field: String) throws(QEMUStreamError) -> String {
    let start = place(field)
    let bytes = try bytes(Int(try integer(UInt8.self, field)), field)
    guard let name = String(validating: bytes, as: UTF8.self) else {
      throw .invalid(start, reason: "a name that is not UTF-8")
    }
    return name
  }

  /// Where a byte next comes within the buffer, counted from the next; nil when it does not.
  func distance(to byte: UInt8, from start: Int) -> Int? {
    buffer[(next + start)...].firstIndex(of: byte).map { $0 - next }
  }
}
