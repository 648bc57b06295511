import Foundation
import LinuxIO
import Synchronization

/// QEMU's control socket: one command at a time, from any thread.
///
/// QEMU's events are skipped, as everything can be asked. So are answers that come after their command was given up
/// (`stalled`): the next one gets its own. After any other error that is no `refused` the two sides do not agree what is
/// answered: nothing more is to be expected of the connection.
final class QmpConnection: Sendable {
  /// The longest line that is taken, in bytes.
  static let mostLineBytes = 1 << 20

  private struct Incoming {
    var unread: [UInt8] = []
    var commandCount: UInt64 = 0
  }

  private let path: String
  private let socket: UnixSocket
  private let incoming = Mutex(Incoming())

  /// Connects, and is ready for commands.
  /// - Parameter limit: how long QEMU may take to answer.
  init(path: String, within limit: Duration = .seconds(5)) throws(QmpError) {
    self.path = path
    do throws(LinuxError) {
      socket = try UnixSocket.connect(to: path)
    } catch {
      throw .noServer(path: path, error)
    }
    try greet(within: limit)
    _ = try execute("qmp_capabilities", within: limit)
  }

  private func greet(within limit: Duration) throws(QmpError) {
    let line: String?
    do throws(QmpError) {
      line = try incoming.withLock { (incoming) throws(QmpError) in
        try nextLine(&incoming, for: "greeting", limit, until: MonotonicClock.moment(after: limit))
      }
    } catch {
      if case .stalled = error { throw .silent(path: path) }
      throw error
    }
    guard let line, JSON(parsing: line)?["QMP"] != nil else {
      throw .notQmp(path: path, text: Self.shortened(line ?? ""))
    }
  }

  /// Has QEMU do something and returns its answer.
  /// - Parameters:
  ///   - descriptor: lent for the call; QEMU gets one of its own.
  ///   - limit: how long QEMU may take.
  @discardableResult
  func execute(
    _ command: String, _ arguments: [(String, JSON)] = [], passing descriptor: Int32? = nil,
    within limit: Duration = .seconds(10)
  ) throws(QmpError) -> JSON {
    try incoming.withLock { (incoming) throws(QmpError) in
      incoming.commandCount += 1
      let number = JSON.number(incoming.commandCount)
      let request = JSON.object([("execute", .text(command)), ("arguments", .object(arguments)), ("id", number)])
      let deadline = MonotonicClock.moment(after: limit)
      try send("\(request)\n", passing: descriptor, for: command, limit)
      while true {
        guard let line = try nextLine(&incoming, for: command, limit, until: deadline) else {
          throw .gone(command: command)
        }
        guard let message = JSON(parsing: line), case .object = message else {
          throw .malformed(line: Self.shortened(line))
        }
        let isLate = message["id"]?.number.map { $0 < incoming.commandCount } ?? false
        guard isLate || message["event"] != nil else { return try Self.answer(message, to: command, number) }
        // Events without end are no answer.
        guard MonotonicClock.now < deadline else { throw .stalled(command: command, limit: limit) }
      }
    }
  }

  private static func answer(_ message: JSON, to command: String, _ number: JSON) throws(QmpError) -> JSON {
    if let error = message["error"] {
      throw .refused(command: command, reason: error["desc"]?.text ?? "\(error)")
    }
    guard let value = message["return"], message["id"] == number else {
      throw .unexpected(command: command, answer: shortened("\(message)"))
    }
    return value
  }

  private func send(
    _ text: String, passing descriptor: Int32?, for command: String, _ limit: Duration
  ) throws(QmpError) {
    do throws(LinuxError) {
      try socket.send(Array(text.utf8), descriptors: descriptor.map { [$0] } ?? [], within: limit)
    } catch {
      throw Self.failure(error, of: command, limit)
    }
  }

  /// The next line; nil when QEMU has closed the connection.
  private func nextLine(
    _ incoming: inout Incoming, for command: String, _ limit: Duration, until deadline: UInt64
  ) throws(QmpError) -> String? {
    var searched = 0
    while true {
      if let end = incoming.unread[searched...].firstIndex(of: UInt8(ascii: "\n")) {
        defer { incoming.unread.removeFirst(end + 1) }
        return String(decoding: incoming.unread[..<end], as: UTF8.self)
      }
      searched = incoming.unread.count
      guard searched < Self.mostLineBytes else { throw .lineTooLong(most: Self.mostLineBytes) }
      let bytes = try receive(for: command, limit, until: deadline)
      guard !bytes.isEmpty else { return nil }
      incoming.unread += bytes
    }
  }

  /// What has come; nothing at the end.
  private func receive(for command: String, _ limit: Duration, until deadline: UInt64) throws(QmpError) -> [UInt8] {
    do throws(LinuxError) {
      if try socket.waitUntilReadable(within: MonotonicClock.timeLeft(until: deadline)) {
        return try socket.descriptor.readBytes(upTo: 1 << 16)
      }
    } catch {
      throw Self.failure(error, of: command, limit)
    }
    throw .stalled(command: command, limit: limit)
  }

  private static func failure(_ error: LinuxError, of command: String, _ limit: Duration) -> QmpError {
    if error.isPeerGone { return .gone(command: command) }
    return error.isTimeOut ? .stalled(command: command, limit: limit) : .system(error)
  }

  /// As much of a line as a person wants to see.
  private static func shortened(_ line: String) -> String {
    line.count > 200 ? line.prefix(200) + " …" : line
  }
}
