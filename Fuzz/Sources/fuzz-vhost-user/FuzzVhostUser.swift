import Balloon
import FuzzInput
import Glibc
import LinuxIO
import VhostUser
import VirtioCore

// A front-end that sends whatever it likes to a balloon, mostly after it has set everything up as it should.

private let memoryByteCount = 0x80000

func run(_ input: FuzzInput) {
  do {
    let frontend = try Frontend(input)
    try frontend.live()
  } catch {
    // The session has hung up.
    _ = "\(error)"
  }
}

final class Frontend {
  private var input: FuzzInput
  private let loop: EventLoop
  private let socket: UnixSocket
  private let session: Session<BalloonDevice<MemoryReclaimer>>
  private let device: ServedDevice<BalloonDevice<MemoryReclaimer>>
  private let guest: FileDescriptor
  private let kick: Eventfd
  private let ending: Ending

  /// Whether the session has told its end.
  final class Ending {
    var count = 0
  }

  init(_ input: FuzzInput) throws {
    self.input = input
    let loop = try EventLoop()
    let pair = try UnixSocket.pair()
    let ending = Ending()
    let device = ServedDevice(BalloonDevice(reclaimer: MemoryReclaimer(), clock: { 0 }))
    let far = UnixSocket(owning: try pair.second.descriptor.duplicate())
    session = try Session(Connection(far, limit: .milliseconds(1)), device: device, loop: loop, offering: .supported) {
      if case .ended = $0 { ending.count += 1 }
    }
    socket = UnixSocket(owning: try pair.first.descriptor.duplicate())
    guest = try MemoryFile.create(name: "fuzzed", byteCount: memoryByteCount)
    kick = try Eventfd()
    self.loop = loop
    self.ending = ending
    self.device = device
  }

  func live() throws {
    if input.byte() & 3 != 0 { try setUp() }
    for _ in 0..<64 where !input.isAtEnd && ending.count == 0 { try act() }
    socket.shutDown()
    try pump()
    require(ending.count == 1, "a session that has lost its front-end ends, once")
    require(device.memory == nil, "no memory is kept")
    device.withHost { (host) in require(host.status.isEmpty, "the device is as before") }
  }

  private func pump() throws {
    // A queue that is served without end would hang here, and the fuzzer finds that.
    while try loop.runOnce(within: .zero) > 0 {}
    var waste = [UInt8](repeating: 0, count: 4096)
    while recv(socket.descriptor.rawValue, &waste, waste.count, Int32(MSG_DONTWAIT)) > 0 {}
  }

  private func send(_ request: UInt32, _ flags: UInt32, _ payload: [UInt8], _ descriptors: [Int32] = []) throws {
    let header = [request, flags, UInt32(payload.count)].flatMap { bytes(of: $0) }
    try socket.send(header + payload, descriptors: descriptors, within: .milliseconds(100))
    try pump()
  }

  /// What a right front-end does until the driver kicks.
  private func setUp() throws {
    let user: UInt64 = 0x7f00_0000_0000
    try send(16, 1, bytes(of: UInt64(0x1_6229)))
    try send(2, 1, bytes(of: UInt64(0x1_7000_003B)))
    let table = [0, UInt64(memoryByteCount), user, 0].flatMap { bytes(of: $0) }
    try send(5, 1, bytes(of: UInt64(1)) + table, [guest.rawValue])
    for ring in 0..<UInt32(5) {
      let base = user + UInt64(ring) * 0x2000
      try send(8, 1, bytes(of: ring) + bytes(of: UInt32(16)))
      try send(10, 1, bytes(of: ring) + bytes(of: UInt32(0)))
      try send(
        9, 1, bytes(of: UInt64(ring)) + [base, base + 0x1000, base + 0x800, 0].flatMap { bytes(of: $0) })
      try send(12, 1, bytes(of: UInt64(ring)), [kick.descriptor.rawValue])
      try send(18, 1, bytes(of: ring) + bytes(of: UInt32(1)))
    }
    try send(39, 1, bytes(of: UInt64(15)))
    require(ending.count == 0 && device.memory != nil, "a front-end that does as it should is served")
  }

  private func act() throws {
    switch input.byte() & 7 {
    case 0, 1:
      let offset = Int(input.integer(UInt16.self)) * 4
      let content = input.bytes(upTo: 1 + Int(input.byte() & 63))
      if !content.isEmpty { try guest.writeAll(content, at: offset) }
    case 2:
      kick.signal()
      try pump()
    case 3:
      try socket.send(input.bytes(upTo: 1 + Int(input.byte() & 31)), within: .milliseconds(100))
      try pump()
    default:
      let request = UInt32(input.byte() & 63)
      let shape = input.byte()
      let flags: UInt32 = shape & 1 == 0 ? 1 : shape & 2 == 0 ? 9 : UInt32(input.byte())
      let files = [guest.rawValue, kick.descriptor.rawValue, socket.descriptor.rawValue]
      let descriptors = (0..<Int(shape >> 2 & 3)).map { files[(Int(shape >> 4) + $0) % 3] }
      try send(request, flags, input.bytes(upTo: Int(input.byte())), descriptors)
    }
  }
}

#if FUZZ
  @c(LLVMFuzzerTestOneInput)
  public func fuzz(_ start: UnsafePointer<UInt8>?, _ count: Int) -> CInt {
    run(FuzzInput(start, count))
    return 0
  }
#else
  @main enum Program {
    static func main() { replay(run) }
  }
#endif
