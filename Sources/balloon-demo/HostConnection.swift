import Foundation
import LinuxIO

/// Requests and replies over a socket: a length of four bytes, then JSON.
struct HostConnection: ~Copyable {
  /// Longer messages are not sent, so one is a mistake.
  private static let mostBytes = 1 << 20

  private let socket: UnixSocket

  init(_ socket: consuming UnixSocket) {
    self.socket = socket
  }

  func send(_ message: some Encodable) throws {
    let body = try Array(JSONEncoder().encode(message))
    let count = UInt32(body.count)
    let length = (0..<4).map { UInt8(truncatingIfNeeded: count >> UInt32(8 * $0)) }
    try socket.send(length + body, within: .seconds(10))
  }

  /// The next message, or nil when the other process has closed its end.
  func receive<Message: Decodable>(_: Message.Type, within limit: Duration?) throws -> Message? {
    guard let length = try socket.receive(exactly: 4, within: limit)?.bytes else { return nil }
    let count = length.reversed().reduce(0) { $0 << 8 | Int($1) }
    guard count <= Self.mostBytes, let body = try socket.receive(exactly: count, within: .seconds(10))?.bytes else {
      throw DemoError.hostEnded("a message of \(count) bytes that did not come")
    }
    return try JSONDecoder().decode(Message.self, from: Data(body))
  }
}

/// Why the demo stopped. What it says is for the person at the terminal.
enum DemoError: Error, CustomStringConvertible {
  case hostEnded(String)
  case hostFailed(String)
  case notVerified(String)
  case notEnoughMemory(needed: UInt64, available: UInt64)

  var description: String {
    switch self {
    case .hostEnded(let what): "the process that hosts the guest ended: \(what)"
    case .hostFailed(let what): what
    case .notVerified(let what): "not verified: \(what)"
    case .notEnoughMemory(let needed, let available):
      "the guest and its copy on the move need \(Size(needed)), and this machine has \(Size(available)) free: "
        + "try a smaller --memory"
    }
  }
}
