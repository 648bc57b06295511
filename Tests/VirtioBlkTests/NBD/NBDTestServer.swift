import Foundation
import GuestRAM
import LinuxIO
import Testing

@testable import VirtioBlk

/// A server that says what a test has it say, one script for each connection in turn.
enum NBDTestServer {
  typealias Script = @Sendable (borrowing NBDTestPeer) throws -> Void

  /// Runs a body with the address of a server; what a script throws ends its connection.
  static func run(_ scripts: [Script], _ body: (NBDAddress) throws -> Void) throws {
    let path = NSTemporaryDirectory() + "nbd-\(UUID().uuidString.prefix(8))"
    let listener = try UnixListener(path: path)
    let isOver = Monitor(false)
    let thread = try Thread(name: "nbd-server") { serve(listener, scripts, until: isOver) }
    let result = Result { try body(try NBDAddress(.socket(path: path))) }
    isOver.withLock { $0 = true }
    // The last peer, for whom the server finds that it is over.
    _ = try UnixSocket.connect(to: path)
    thread.join()
    try result.get()
  }

  /// Gives each connection a thread of its own, and waits for all.
  private static func serve(_ listener: borrowing UnixListener, _ scripts: [Script], until isOver: Monitor<Bool>) {
    guard let socket = try? listener.accept(), !isOver.withLock({ $0 }) else { return }
    let peer = NBDTestPeer(socket: socket)
    let thread = try? Thread(name: "nbd-peer") {
      try? scripts.first?(peer)
      peer.socket.shutDown()
    }
    serve(listener, Array(scripts.dropFirst()), until: isOver)
    thread?.join()
  }
}

/// What a driver of this test file saw of a request.
struct NBDSeenRequest: Equatable {
  var flags: UInt16
  var command: UInt16
  var handle: UInt64
  var offset: UInt64
  var byteCount: UInt32
  var payload: [UInt8]
}

/// The server's end of a connection. Its numbers are its own: one wrong on both sides would not be seen.
struct NBDTestPeer: ~Copyable {
  let socket: UnixSocket

  init(socket: consuming UnixSocket) { self.socket = socket }

  func receive(_ byteCount: Int) throws -> [UInt8] {
    guard let received = try socket.receive(exactly: byteCount, within: .seconds(20)) else {
      throw LinuxError(call: "receive", number: ECONNRESET)
    }
    return received.bytes
  }

  func send(_ parts: [UInt8]...) throws {
    try socket.send(parts.flatMap { $0 }, within: .seconds(20))
  }

  func greet(flags: UInt16 = 3) throws {
    try send(Array("NBDMAGICIHAVEOPT".utf8), big(flags))
    _ = try receive(4)
  }

  /// The next option's number and content.
  func option() throws -> (UInt32, [UInt8]) {
    let header = try receive(16)
    guard header.prefix(8) == ArraySlice("IHAVEOPT".utf8) else { throw LinuxError(call: "option", number: EINVAL) }
    return (number(header[8..<12]), try receive(Int(number(header[12..<16]) as UInt32)))
  }

  func answer(_ option: UInt32, _ type: UInt32, _ bytes: [UInt8] = []) throws {
    try send(big(0x3_e889_0455_65a9 as UInt64), big(option), big(type), big(UInt32(bytes.count)), bytes)
  }

  /// All that comes before requests, as a good server does it.
  func negotiate(
    byteCount: UInt64 = 1 << 20, flags: UInt16 = 0b0110_1101, isStructured: Bool = true, sizes: [UInt32]? = nil
  ) throws {
    try greet()
    _ = try option()
    try answer(8, isStructured ? 1 : 0x8000_0001)
    _ = try option()
    try answer(7, 3, big(0 as UInt16) + big(byteCount) + big(flags))
    if let sizes { try answer(7, 3, big(3 as UInt16) + sizes.flatMap { big($0) }) }
    try answer(7, 1)
  }

  func request() throws -> NBDSeenRequest {
    let header = try receive(28)
    guard (number(header[0..<4]) as UInt32) == 0x2560_9513 else { throw LinuxError(call: "request", number: EINVAL) }
    let command: UInt16 = number(header[6..<8])
    let byteCount: UInt32 = number(header[24..<28])
    return NBDSeenRequest(
      flags: number(header[4..<6]), command: command, handle: number(header[8..<16]),
      offset: number(header[16..<24]), byteCount: byteCount,
      payload: command == 1 ? try receive(Int(byteCount)) : [])
  }

  func simple(_ handle: UInt64, error: UInt32 = 0, _ data: [UInt8] = []) throws {
    try send(big(0x6744_6698 as UInt32), big(error), big(handle), data)
  }

  func chunk(_ handle: UInt64, _ type: UInt16, isLast: Bool = false, _ content: [UInt8] = []) throws {
    try send(chunkHeader(handle, type, isLast: isLast, byteCount: UInt32(content.count)), content)
  }

  func chunkHeader(_ handle: UInt64, _ type: UInt16, isLast: Bool, byteCount: UInt32) -> [UInt8] {
    big(0x668e_33ef as UInt32) + big(UInt16(isLast ? 1 : 0)) + big(type) + big(handle) + big(byteCount)
  }

  /// A chunk of data, each byte of which is `value`.
  func data(_ handle: UInt64, at offset: UInt64, _ byteCount: Int, of value: UInt8, isLast: Bool = false) throws {
    try chunk(handle, 1, isLast: isLast, big(offset) + [UInt8](repeating: value, count: byteCount))
  }

  /// Serves a disk in memory, until the client leaves.
  func serve(_ disk: Monitor<[UInt8]>, atMost count: Int = .max) throws {
    for _ in 0..<count {
      let request = try request()
      let range = Int(request.offset)..<Int(request.offset) + Int(request.byteCount)
      switch request.command {
      case 0: try chunk(request.handle, 1, isLast: true, big(request.offset) + disk.withLock { Array($0[range]) })
      case 1:
        disk.withLock { $0.replaceSubrange(range, with: request.payload) }
        try simple(request.handle)
      case 2: return
      case 6:
        disk.withLock { $0.replaceSubrange(range, with: repeatElement(0, count: range.count)) }
        try simple(request.handle)
      default: try simple(request.handle)
      }
    }
  }
}

func big(_ value: some FixedWidthInteger) -> [UInt8] {
  (1...value.bitWidth / 8).reversed().map { UInt8(truncatingIfNeeded: value >> (8 * ($0 - 1))) }
}

func number<Value: FixedWidthInteger>(_ bytes: ArraySlice<UInt8>) -> Value {
  bytes.reduce(0) { $0 << 8 | Value($1) }
}

/// What a body throws, as an error of NBD.
func nbdFailure(_ body: () throws -> Void) -> NBDError? {
  do {
    try body()
    return nil
  } catch {
    guard case .nbd(let failure) = error as? StoreError else { return error as? NBDError }
    return failure
  }
}
