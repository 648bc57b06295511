import LinuxIO

/// Where the connection of a migration goes, as people write it: `tcp:host2:4444`, `exec:ssh host2 …`.
public enum MigrationAddress: Hashable, Sendable {
  /// A socket in the file system.
  case unix(path: String)
  /// A port of a machine, which is a name, or an address in numbers without brackets.
  case tcp(host: String, port: UInt16)
  /// A connected stream socket that this program was started with.
  case descriptor(Int32)
  /// Two pipes that this program was started with, or two sockets.
  case descriptors(input: Int32, output: Int32)
  /// A file, which a source writes and a destination reads: nothing goes the other way.
  case file(path: String)
  /// The standard streams of a command for `/bin/sh`.
  case command(String)

  /// What may be written, to complete the sentence "It takes …".
  public static let expectation = """
    "unix:PATH", "tcp:HOST:PORT", "fd:NUMBER", "fd:INPUT,OUTPUT", "file:PATH" or "exec:COMMAND"
    """

  /// Reads what people write.
  /// - Throws: `invalidAddress`, which says what is to be written.
  public init(_ text: String) throws(MigrationError) {
    let parts = text.split(separator: ":", maxSplits: 1, omittingEmptySubsequences: false).map(String.init)
    guard parts.count == 2, !text.utf8.contains(0) else {
      throw .invalidAddress(text, expectation: Self.expectation)
    }
    let (kind, rest) = (parts[0], parts[1])
    let found: MigrationAddress? =
      switch kind {
      case "unix": Self.isSocketPath(rest) ? .unix(path: rest) : nil
      case "tcp": Self.port(rest)
      case "fd": Self.descriptors(rest)
      case "file": rest.isEmpty ? nil : .file(path: rest)
      case "exec": rest.allSatisfy(\.isWhitespace) ? nil : .command(rest)
      default: nil
      }
    guard let found else { throw .invalidAddress(text, expectation: Self.expectation(of: kind)) }
    self = found
  }

  private static func expectation(of kind: String) -> String {
    switch kind {
    case "unix": "\"unix:\" and a path of at most \(SocketAddress.largestPathByteCount) bytes"
    case "tcp":
      """
      "tcp:HOST:PORT" with a port from 0 to 65535: a name, "192.0.2.1" or "[2001:db8::1]" for a machine, "0.0.0.0" or \
      "[::]" to listen on all addresses of this one
      """
    case "fd": "\"fd:NUMBER\" of an open socket, or \"fd:INPUT,OUTPUT\" of two pipes, such as \"fd:0,1\""
    case "file": "\"file:\" and a path"
    case "exec": "\"exec:\" and a command for the shell"
    default: expectation
    }
  }
}

extension MigrationAddress: CustomStringConvertible {
  /// As it is written.
  public var description: String {
    switch self {
    case .unix(let path): "unix:\(path)"
    case .tcp(let host, let port): host.contains(":") ? "tcp:[\(host)]:\(port)" : "tcp:\(host):\(port)"
    case .descriptor(let number): "fd:\(number)"
    case .descriptors(let input, let output): "fd:\(input),\(output)"
    case .file(let path): "file:\(path)"
    case .command(let command): "exec:\(command)"
    }
  }
}

// MARK: - Reading

extension MigrationAddress {
  private static func isSocketPath(_ path: String) -> Bool {
    (1...SocketAddress.largestPathByteCount).contains(path.utf8.count)
  }

  /// `HOST:PORT`, where an address with colons is in brackets and nothing else is.
  private static func port(_ text: String) -> MigrationAddress? {
    guard let colon = text.lastIndex(of: ":"),
      let port: UInt16 = number(text[text.index(after: colon)...])
    else { return nil }
    var host = text[..<colon]
    let isBracketed = host.first == "[" && host.last == "]"
    if isBracketed { host = host.dropFirst().dropLast() }
    guard !host.isEmpty, host.contains(":") == isBracketed, !host.contains(where: { "[]/".contains($0) }),
      !host.contains(where: \.isWhitespace)
    else { return nil }
    return .tcp(host: String(host), port: port)
  }

  private static func descriptors(_ text: String) -> MigrationAddress? {
    let parts = text.split(separator: ",", omittingEmptySubsequences: false)
    let numbers: [Int32] = parts.compactMap { number($0) }
    guard numbers.count == parts.count else { return nil }
    switch numbers.count {
    case 1: return .descriptor(numbers[0])
    case 2 where numbers[0] != numbers[1]: return .descriptors(input: numbers[0], output: numbers[1])
    default: return nil
    }
  }

  /// Digits and nothing else.
  private static func number<Number: FixedWidthInteger>(_ text: Substring) -> Number? {
    text.utf8.allSatisfy { (UInt8(ascii: "0")...UInt8(ascii: "9")).contains($0) } ? Number(text) : nil
  }
}
