import CLinux
import Glibc

/// Parts of one array on their way into a socket: many in one call, as messages or as a stretch of a stream.
///
/// It holds no bytes, only where they lie, and never allocates after it was made.
@safe public struct OutgoingMessages: ~Copyable {
  /// How many parts fit.
  public let capacity: Int
  private let partsPerMessage: Int
  private var parts: [Range<Int>] = []
  // SAFETY: both are allocated in init with room for `capacity`, freed in deinit, and set before each call that reads
  // them.
  private let elements: UnsafeMutablePointer<iovec>
  private let headers: UnsafeMutablePointer<mmsghdr>

  /// - Parameters:
  ///   - messageCount: how many messages fit, 1...1024.
  ///   - partsPerMessage: of how many parts each consists.
  public init(messageCount: Int, partsPerMessage: Int = 1) {
    precondition((1...1024).contains(messageCount) && (1...16).contains(partsPerMessage))
    capacity = messageCount * partsPerMessage
    self.partsPerMessage = partsPerMessage
    parts.reserveCapacity(capacity)
    unsafe elements = .allocate(capacity: capacity)
    unsafe headers = .allocate(capacity: messageCount)
  }

  deinit {
    unsafe elements.deallocate()
    unsafe headers.deallocate()
  }

  /// How many whole messages there are.
  public var count: Int { parts.count / partsPerMessage }

  /// Adds a part; there must be room for it.
  public mutating func append(_ part: Range<Int>) {
    precondition(parts.count < capacity && part.lowerBound >= 0)
    parts.append(part)
  }

  /// Empties the list and keeps its room.
  public mutating func removeAll() {
    parts.removeAll(keepingCapacity: true)
  }

  /// Sends messages, the first of them `index`, until there are none, or there is no room, or one is refused.
  /// - Returns: how many were sent; nil when there was no room for one. Why the first was refused is thrown.
  public borrowing func send(
    from index: Int = 0, of bytes: [UInt8], on socket: borrowing Socket
  ) throws(LinuxError) -> Int? {
    let number = socket.descriptor.rawValue
    let rest = index..<max(index, count)
    return try unsafe withElements(of: bytes) { (elements) throws(LinuxError) in
      for message in rest {
        var header = unsafe mmsghdr()
        unsafe header.msg_hdr.msg_iov = elements + message * partsPerMessage
        unsafe header.msg_hdr.msg_iovlen = partsPerMessage
        unsafe (headers + message).initialize(to: header)
      }
      let flags = Int32(MSG_DONTWAIT | MSG_NOSIGNAL)
      return try unlessItWaits("sendmmsg") {
        Int(unsafe sendmmsg(number, headers + rest.lowerBound, UInt32(rest.count), flags))
      }
    }
  }

  /// Sends all parts as the next bytes of a stream.
  /// - Returns: how many bytes the kernel took; nil when it has no room now.
  public borrowing func sendAsStream(of bytes: [UInt8], on socket: borrowing Socket) throws(LinuxError) -> Int? {
    let number = socket.descriptor.rawValue
    return try unsafe withElements(of: bytes) { (elements) throws(LinuxError) in
      var header = unsafe msghdr()
      unsafe header.msg_iov = elements
      unsafe header.msg_iovlen = parts.count
      return try unlessItWaits("sendmsg") {
        unsafe sendmsg(number, &header, Int32(MSG_DONTWAIT | MSG_NOSIGNAL))
      }
    }
  }

  private borrowing func withElements(
    of bytes: [UInt8], _ body: (UnsafeMutablePointer<iovec>) throws(LinuxError) -> Int?
  ) throws(LinuxError) -> Int? {
    try unsafe bytes.span.withUnsafeBytes { (buffer) throws(LinuxError) in
      guard let base = buffer.baseAddress, !parts.isEmpty else { return 0 }
      // The kernel only reads it.
      let start = unsafe UnsafeMutableRawPointer(mutating: base)
      for (index, part) in parts.enumerated() {
        precondition(part.upperBound <= buffer.count)
        unsafe (elements + index).initialize(to: iovec(iov_base: start + part.lowerBound, iov_len: part.count))
      }
      return try unsafe body(elements)
    }
  }
}
