/// Where an NBD server is, and what of it: `nbd://HOST[:PORT]/[EXPORT]` or `nbd+unix:///[EXPORT]?socket=PATH`.
public struct NBDAddress: Equatable, Sendable {
  /// How the server is reached.
  public enum Place: Equatable, Sendable {
    /// A name or an address in numbers, and a port.
    case host(String, port: UInt16)
    /// The path of a socket.
    case socket(path: String)
  }

  /// The port that the protocol has been given.
  public static let defaultPort: UInt16 = 10809
  /// The longest name that the protocol has room for, in bytes.
  public static let longestExportName = 4096

  public let place: Place
  /// The export's name; the empty one is the server's default.
  public let exportName: String

  /// - Throws: `illegalAddress` for a name of more than `longestExportName` bytes.
  public init(_ place: Place, exportName: String = "") throws(NBDError) {
    guard exportName.utf8.count <= Self.longestExportName else { throw .illegalAddress(exportName) }
    self.place = place
    self.exportName = exportName
  }

  /// Whether a text is meant to be the address of an NBD server rather than a path.
  public static func isMeant(by text: String) -> Bool {
    ["nbd:", "nbd+unix:", "nbds:", "nbds+unix:"].contains { text.hasPrefix($0) }
  }

  /// Reads an address as people write it. Bytes that it cannot hold are written as `%` and two hexadecimal digits.
  public init(parsing text: String) throws(NBDError) {
    guard !text.hasPrefix("nbds:"), !text.hasPrefix("nbds+unix:") else { throw .encrypted }
    let address: (Place, String)?
    if text.hasPrefix("nbd+unix://") {
      address = Self.unixAddress(text.dropFirst("nbd+unix://".count))
    } else if text.hasPrefix("nbd://") {
      address = Self.hostAddress(text.dropFirst("nbd://".count))
    } else {
      address = nil
    }
    guard let (place, name) = address else { throw .illegalAddress(text) }
    do throws(NBDError) {
      try self.init(place, exportName: name)
    } catch {
      throw .illegalAddress(text)
    }
  }

  private static func unixAddress(_ rest: Substring) -> (Place, String)? {
    let parts = rest.split(separator: "?", maxSplits: 1, omittingEmptySubsequences: false)
    guard parts.count == 2, parts[0].isEmpty || parts[0].hasPrefix("/"), parts[1].hasPrefix("socket=") else {
      return nil
    }
    guard let path = decoded(parts[1].dropFirst("socket=".count)), !path.isEmpty else { return nil }
    return decoded(parts[0].dropFirst()).map { (.socket(path: path), $0) }
  }

  private static func hostAddress(_ rest: Substring) -> (Place, String)? {
    let parts = rest.split(separator: "/", maxSplits: 1, omittingEmptySubsequences: false)
    guard let server = parts.first, !rest.contains("?"), !server.contains("@"),
      let (host, port) = hostAndPort(server)
    else { return nil }
    return decoded(parts.count == 2 ? parts[1] : "").map { (.host(host, port: port), $0) }
  }

  /// An address of IPv6 stands in brackets, since it has colons itself.
  private static func hostAndPort(_ server: Substring) -> (String, UInt16)? {
    var host = server
    var port = ""[...]
    if server.hasPrefix("["), let end = server.firstIndex(of: "]") {
      host = server[server.index(after: server.startIndex)..<end]
      port = server[server.index(after: end)...]
      guard port.isEmpty || port.hasPrefix(":") else { return nil }
    } else if let colon = server.firstIndex(of: ":") {
      host = server[..<colon]
      port = server[colon...]
    }
    guard let name = decoded(host), !name.isEmpty else { return nil }
    guard !port.isEmpty else { return (name, defaultPort) }
    return UInt16(port.dropFirst()).map { (name, $0) }
  }

  /// Nil for what is not encoded well, and for a byte that no name or path can have.
  private static func decoded(_ text: Substring) -> String? {
    var bytes: [UInt8] = []
    var rest = text.utf8
    while let byte = rest.popFirst() {
      guard byte == UInt8(ascii: "%") else {
        bytes.append(byte)
        continue
      }
      guard let value = UInt8(String(rest.prefix(2)) ?? "", radix: 16), rest.count >= 2 else { return nil }
      bytes.append(value)
      rest = rest.dropFirst(2)
    }
    return bytes.contains(0) ? nil : String(validating: bytes, as: UTF8.self)
  }
}

extension NBDAddress: CustomStringConvertible {
  /// For people; not encoded.
  public var description: String {
    switch place {
    case .host(let host, let port): "nbd://\(host):\(port)/\(exportName)"
    case .socket(let path): "nbd+unix:///\(exportName)?socket=\(path)"
    }
  }
}
