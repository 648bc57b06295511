import Glibc

/// Where a socket is found: a path, or a port of a machine.
public struct SocketAddress: Equatable, Sendable, CustomStringConvertible {
  /// What the system calls take: a `sockaddr` of its family.
  private let bytes: [UInt8]
  /// The path, or `127.0.0.1:1234`.
  public let description: String
  /// The path of a unix socket; nil for other families.
  public let path: String?

  let family: Int32

  /// The port of an address of the internet; nil for other families.
  public var port: UInt16? {
    // In both versions it follows the family.
    guard family == AF_INET || family == AF_INET6, bytes.count >= 4 else { return nil }
    return UInt16(bytes[2]) << 8 | UInt16(bytes[3])
  }

  /// The longest path of a socket. The kernel wants a zero byte behind it.
  public static let largestPathByteCount = 107

  /// A socket in the file system; `ENAMETOOLONG` is thrown for a path of more than `largestPathByteCount` bytes.
  public static func unix(path: String) throws(LinuxError) -> SocketAddress {
    let address = try UnixAddress(path: path)
    return SocketAddress(bytes: address.bytes, description: path, path: path, family: AF_UNIX)
  }

  /// All addresses of a port of a machine, best first; this asks the resolver and takes as long as that does.
  ///
  /// `EADDRNOTAVAIL` is thrown for a name that has none.
  /// - Parameter host: a name, or an address in numbers.
  public static func internet(host: String, port: UInt16) throws(LinuxError) -> [SocketAddress] {
    var hints = unsafe addrinfo()
    unsafe hints.ai_socktype = Int32(SOCK_STREAM.rawValue)
    unsafe hints.ai_flags = AI_NUMERICSERV
    var found: UnsafeMutablePointer<addrinfo>?
    let result = unsafe getaddrinfo(host, String(port), &hints, &found)
    defer { unsafe freeaddrinfo(found) }
    var addresses: [SocketAddress] = []
    var next = unsafe result == 0 ? found : nil
    while let entry = unsafe next?.pointee {
      if let address = unsafe entry.ai_addr { unsafe addresses.append(SocketAddress(address, entry.ai_addrlen)) }
      unsafe next = entry.ai_next
    }
    guard addresses.isEmpty else { return addresses }
    let number = result == EAI_SYSTEM ? errno : EADDRNOTAVAIL
    throw LinuxError(call: "getaddrinfo", subject: "\(host):\(port)", number: number)
  }

  private init(bytes: [UInt8], description: String, path: String?, family: Int32) {
    self.bytes = bytes
    self.description = description
    self.path = path
    self.family = family
  }

  /// - Parameter length: how many bytes there are at `address`.
  @unsafe init(_ address: UnsafePointer<sockaddr>, _ length: socklen_t) {
    let buffer = unsafe UnsafeRawBufferPointer(start: address, count: Int(length))
    let family = unsafe Int32(address.pointee.sa_family)
    let text = unsafe family == AF_UNIX ? "unix socket" : Self.text(address, length)
    self.init(bytes: unsafe Array(buffer), description: text, path: nil, family: family)
  }

  private static func text(_ address: UnsafePointer<sockaddr>, _ length: socklen_t) -> String {
    var host = [CChar](repeating: 0, count: 64)
    var port = [CChar](repeating: 0, count: 8)
    let result = unsafe getnameinfo(
      address, length, &host, socklen_t(host.count), &port, socklen_t(port.count), NI_NUMERICHOST | NI_NUMERICSERV)
    guard result == 0 else { return "unknown address" }
    let texts = [host, port].map { text in
      String(decoding: text.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self)
    }
    return texts[0].contains(":") ? "[\(texts[0])]:\(texts[1])" : "\(texts[0]):\(texts[1])"
  }

  /// Lends the address for one call, in the shape that system calls take.
  @unsafe func withSocketAddress(_ body: (UnsafePointer<sockaddr>, socklen_t) -> Int32) -> Int32 {
    unsafe bytes.withUnsafeBytes { (buffer) in
      // An array's bytes are aligned for any address.
      guard let base = buffer.baseAddress else { return -1 }
      return unsafe body(base.assumingMemoryBound(to: sockaddr.self), socklen_t(buffer.count))
    }
  }
}

extension UnixAddress {
  fileprivate var bytes: [UInt8] {
    unsafe withUnsafeBytes(of: self) { unsafe Array($0) }
  }
}
