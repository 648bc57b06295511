import Foundation
import LinuxIO
import Testing
import VhostUser

/// Message numbers as the protocol's text has them; the back-end has its own list.
enum Wire {
  static let getFeatures: UInt32 = 1
  static let setFeatures: UInt32 = 2
  static let setOwner: UInt32 = 3
  static let setMemTable: UInt32 = 5
  static let setLogBase: UInt32 = 6
  static let setLogFd: UInt32 = 7
  static let setVringNum: UInt32 = 8
  static let setVringAddr: UInt32 = 9
  static let setVringBase: UInt32 = 10
  static let getVringBase: UInt32 = 11
  static let setVringKick: UInt32 = 12
  static let setVringCall: UInt32 = 13
  static let setVringErr: UInt32 = 14
  static let getProtocolFeatures: UInt32 = 15
  static let setProtocolFeatures: UInt32 = 16
  static let getQueueNum: UInt32 = 17
  static let setVringEnable: UInt32 = 18
  static let sendRarp: UInt32 = 19
  static let netSetMtu: UInt32 = 20
  static let setBackendReqFd: UInt32 = 21
  static let getConfig: UInt32 = 24
  static let setConfig: UInt32 = 25
  static let getInflightFd: UInt32 = 31
  static let postcopyAdvise: UInt32 = 28
  static let postcopyListen: UInt32 = 29
  static let postcopyEnd: UInt32 = 30
  static let setInflightFd: UInt32 = 32
  static let resetDevice: UInt32 = 34
  static let vringKick: UInt32 = 35
  static let getMaxMemSlots: UInt32 = 36
  static let addMemReg: UInt32 = 37
  static let remMemReg: UInt32 = 38
  static let setDeviceStateFd: UInt32 = 42
  static let checkDeviceState: UInt32 = 43
  static let getSharedObject: UInt32 = 41
  static let setStatus: UInt32 = 39
  static let getStatus: UInt32 = 40

  static let version1: UInt64 = 1 << 32
  static let protocolFeatures: UInt64 = 1 << 30
  static let logAll: UInt64 = 1 << 26
  static let eventIndex: UInt64 = 1 << 29
  static let indirect: UInt64 = 1 << 28

  static let replyAck: UInt64 = 1 << 3
  static let backendReq: UInt64 = 1 << 5
  static let config: UInt64 = 1 << 9
  static let inband: UInt64 = 1 << 14
  static let logShmfd: UInt64 = 1 << 1
  static let memSlots: UInt64 = 1 << 15
  static let inflightShmfd: UInt64 = 1 << 12
  static let rarp: UInt64 = 1 << 2
  static let mtu: UInt64 = 1 << 4
  static let pageFault: UInt64 = 1 << 8
  static let deviceState: UInt64 = 1 << 19
  static let statusFeature: UInt64 = 1 << 16
  static let all: UInt64 =
    1 << 0 | logShmfd | replyAck | backendReq | config | inflightShmfd | 1 << 13 | memSlots | statusFeature
    | deviceState | (Userfaultfd.isAvailable ? pageFault : 0)

  static let noDescriptor: UInt64 = 0x100
}

/// A front-end written from the protocol's text, with a session on the other end of its socket. Both live on one thread:
/// `pump` lets the session do all that there is to do.
final class Frontend {
  struct Answer: Equatable {
    let request: UInt32
    let flags: UInt32
    let payload: [UInt8]
  }

  let loop: EventLoop
  let device: ServedDevice<EchoDevice>
  private(set) var socket: UnixSocket?
  let socketNumber: Int32
  private(set) var session: Session<EchoDevice>?
  private(set) var isEnded = false
  private(set) var error: VhostUserError?
  private(set) var brokenCount = 0
  private(set) var untrackedRings: [Int] = []
  var whenEnded: () -> Void = {}
  /// What came with answers and was not taken.
  var descriptors = DescriptorList()

  convenience init(offering offered: ProtocolFeatures = .standard) throws {
    try self.init(ServedDevice(EchoDevice()), offering: offered)
  }

  init(_ device: ServedDevice<EchoDevice>, offering offered: ProtocolFeatures = .standard) throws {
    self.device = device
    loop = try EventLoop()
    let pair = try UnixSocket.pair()
    let near = try pair.first.descriptor.duplicate()
    socketNumber = near.rawValue
    socket = UnixSocket(owning: near)
    let far = UnixSocket(owning: try pair.second.descriptor.duplicate())
    session = try Session(
      Connection(far, limit: .milliseconds(50)), device: device, loop: loop, offering: offered
    ) { [unowned self] event in
      switch event {
      case .attached: break
      case .broken: brokenCount += 1
      case .untracked(let ring): untrackedRings.append(ring)
      case .ended(let error):
        isEnded = true
        self.error = error
        whenEnded()
      }
    }
  }

  /// A front-end of somebody else's session.
  init(connectedTo path: String, serving device: ServedDevice<EchoDevice>, on loop: EventLoop) throws {
    self.device = device
    self.loop = loop
    let socket = try UnixSocket.connect(to: path)
    socketNumber = socket.descriptor.rawValue
    self.socket = consume socket
  }

  func pump() throws {
    while try loop.runOnce(within: .zero) > 0 {}
  }

  func sendRaw(_ bytes: [UInt8], descriptors: [Int32] = []) throws {
    try socket?.send(bytes, descriptors: descriptors, within: .seconds(1))
    try pump()
  }

  func send(_ request: UInt32, _ payload: [UInt8] = [], descriptors: [Int32] = [], flags: UInt32 = 1) throws {
    try sendRaw(words(request, flags, UInt32(payload.count)) + payload, descriptors: descriptors)
  }

  /// What the back-end has sent, if anything.
  func answer() throws -> Answer? {
    guard try socket?.waitUntilReadable(within: .zero) == true else { return nil }
    guard var header = try socket?.receive(exactly: 12, maximumDescriptors: 4) else { return nil }
    while let descriptor = header.descriptors.takeFirst() { descriptors.append(descriptor) }
    let words = header.bytes.words
    let payload = words[2] == 0 ? [] : try socket?.receive(exactly: Int(words[2]), within: .seconds(1))?.bytes ?? []
    return Answer(request: words[0], flags: words[1], payload: payload)
  }

  /// Sends a request and expects exactly its answer.
  func ask(
    _ request: UInt32, _ payload: [UInt8] = [], descriptors: [Int32] = [], flags: UInt32 = 1
  ) throws -> [UInt8] {
    try send(request, payload, descriptors: descriptors, flags: flags)
    let answer = try #require(try answer())
    #expect(answer.request == request && answer.flags == 5)
    return answer.payload
  }

  /// Sends a message with need_reply and gives back the number that acknowledges it.
  func acknowledged(_ request: UInt32, _ payload: [UInt8] = [], descriptors: [Int32] = []) throws -> UInt64 {
    try send(request, payload, descriptors: descriptors, flags: 9)
    let answer = try #require(try answer())
    #expect(answer.request == request && answer.flags == 5)
    return try #require(answer.payload.count == 8 ? answer.payload.number : nil)
  }

  func negotiate(features: UInt64 = Wire.version1 | Wire.protocolFeatures, protocol bits: UInt64 = Wire.all) throws {
    try send(Wire.setOwner)
    try send(Wire.setProtocolFeatures, number(bits))
    try send(Wire.setFeatures, number(features))
  }

  func close() throws {
    socket = nil
    try pump()
  }

  /// Has the asynchronous device answer so many of the requests that it has.
  func finish(_ count: Int) throws {
    device.update { $0.finish(count) }
    device.wake()
    try pump()
  }
}

func words(_ values: UInt32...) -> [UInt8] {
  values.flatMap { value in (0..<4).map { UInt8(value >> (8 * UInt32($0)) & 0xff) } }
}

func number(_ value: UInt64) -> [UInt8] {
  (0..<8).map { UInt8(value >> (8 * UInt64($0)) & 0xff) }
}

extension [UInt8] {
  var number: UInt64 { reversed().reduce(0) { $0 << 8 | UInt64($1) } }
  var words: [UInt32] {
    stride(from: 0, to: count, by: 4).map { start in
      self[start..<start + 4].reversed().reduce(0) { $0 << 8 | UInt32($1) }
    }
  }
}

/// A descriptor to send, of which all copies in this process can be counted.
struct Witness: ~Copyable {
  let file: FileDescriptor

  init(byteCount: Int = 4096) throws {
    file = try MemoryFile.create(name: "witness-\(UUID().uuidString.prefix(12))", byteCount: byteCount)
  }

  /// The same file again.
  init(sharing other: borrowing Witness) throws {
    file = try other.file.duplicate()
  }

  var number: Int32 { file.rawValue }

  /// How many descriptors and mappings of this file the process has besides this one.
  func copyCount() throws -> Int {
    // The lists are read in pieces, which tests on other threads shift against each other now and then.
    var last = try countOnce()
    while true {
      let count = try countOnce()
      if count == last { return count }
      last = count
    }
  }

  private func countOnce() throws -> Int {
    let name = try FileManager.default.destinationOfSymbolicLink(atPath: "/proc/self/fd/\(number)")
    let descriptors = try FileManager.default.contentsOfDirectory(atPath: "/proc/self/fd").count {
      (try? FileManager.default.destinationOfSymbolicLink(atPath: "/proc/self/fd/\($0)")) == name
    }
    var bytes: [UInt8] = []
    let file = try FileDescriptor.open("/proc/self/maps")
    while case let chunk = try file.readBytes(upTo: 65_536), !chunk.isEmpty { bytes += chunk }
    let maps = String(decoding: bytes, as: UTF8.self).split(separator: "\n")
    return descriptors - 1 + maps.count { $0.hasSuffix(name) }
  }
}
