import LinuxIO
public import Options
public import VirtioNet

/// What a card is plugged into, as people write it: `tap:vm0`, `switch`, `stream:/run/net.sock`.
enum PortAddress: OptionValue, Equatable {
  case tap(String)
  /// An inherited descriptor of a TAP device.
  case descriptor(Int32)
  case interface(String)
  case stream(String)
  case listen(String)
  case datagram(local: String, remote: String)
  case learningSwitch
  case loopback
  case sink
  case source

  init?(optionText: String) {
    let parts = optionText.split(separator: ":", maxSplits: 1, omittingEmptySubsequences: false).map(String.init)
    let rest = parts.count == 2 ? parts[1] : ""
    switch (parts[0], rest.isEmpty) {
    case ("tap", false): self = .tap(rest)
    case ("fd", false):
      guard let number = Int32(rest), number > 2 else { return nil }
      self = .descriptor(number)
    case ("packet", false): self = .interface(rest)
    case ("stream", _) where Self.isAddress(rest): self = .stream(rest)
    case ("listen", _) where Self.isAddress(rest): self = .listen(rest)
    case ("dgram", false):
      let ends = rest.split(separator: ",", omittingEmptySubsequences: false).map(String.init)
      guard ends.count == 2, ends.allSatisfy(Self.isAddress), ends[0] != ends[1] else { return nil }
      self = .datagram(local: ends[0], remote: ends[1])
    case ("switch", true) where parts.count == 1: self = .learningSwitch
    case ("loopback", true) where parts.count == 1: self = .loopback
    case ("sink", true) where parts.count == 1: self = .sink
    case ("source", true) where parts.count == 1: self = .source
    default: return nil
    }
  }

  /// Whether it is a path that a socket can have, or `HOST:PORT`.
  private static func isAddress(_ text: String) -> Bool {
    guard !text.contains("/"), let colon = text.lastIndex(of: ":") else {
      return (1...SocketAddress.largestPathByteCount).contains(text.utf8.count)
    }
    return colon > text.startIndex && UInt16(text[text.index(after: colon)...]) != nil
  }

  var optionText: String {
    switch self {
    case .tap(let name): "tap:\(name)"
    case .descriptor(let number): "fd:\(number)"
    case .interface(let name): "packet:\(name)"
    case .stream(let address): "stream:\(address)"
    case .listen(let address): "listen:\(address)"
    case .datagram(let local, let remote): "dgram:\(local),\(remote)"
    case .learningSwitch: "switch"
    case .loopback: "loopback"
    case .sink: "sink"
    case .source: "source"
    }
  }

  static let placeholder = "PORT"
  static let expectation = """
    "tap:NAME", "fd:NUMBER" of an open TAP device, "packet:INTERFACE", "stream:ADDRESS", "listen:ADDRESS" or \
    "dgram:LOCAL,REMOTE" with two addresses, each a path of at most \(SocketAddress.largestPathByteCount) bytes or \
    HOST:PORT, "switch", "loopback", "sink" or "source"
    """
}

extension EthernetAddress: OptionValue {
  public init?(optionText: String) {
    self.init(optionText)
  }

  public var optionText: String { description }
  public static var placeholder: String { "ADDRESS" }
  public static var expectation: String { "six bytes, such as 52:54:00:12:34:56" }
}
