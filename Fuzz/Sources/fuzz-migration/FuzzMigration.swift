import FuzzInput
import Glibc
import GuestRAM
import LinuxIO
import Migration

// A source that sends any frames, whose digests are right: without them a fuzzer would never get past the first.

private let limits = DestinationLimits(
  mostMemory: 1 << 20, mostState: 4096, time: .milliseconds(200), populatingThreadCount: 1)

func run(_ input: FuzzInput) {
  var source = Source(input)
  do {
    let pair = try UnixSocket.pair()
    try pair.first.send(source.stream(), within: .milliseconds(200))
    // The destination can still answer.
    shutdown(pair.first.descriptor.rawValue, Int32(SHUT_WR))
    var destination = Destination(
      UnixSocket(owning: try pair.second.descriptor.duplicate()), producer: "fuzz", limits: limits)
    let arrived = try destination.receive()
    require(arrived.state.count <= limits.mostState, "no more state than allowed")
    require(arrived.memory.byteCount <= limits.mostMemory, "no more memory than allowed")
    _ = try destination.confirm()
  } catch {
    // Left to the source, with a reason.
    _ = "\(error)"
  }
}

struct Source {
  private var input: FuzzInput
  private var number: UInt32 = 0
  private var sent: [UInt8] = []
  private var state: [UInt8] = []

  init(_ input: FuzzInput) {
    self.input = input
  }

  mutating func stream() -> [UInt8] {
    sent = Array("VKMOVE\r\n".utf8) + bytes(of: UInt32(1))
    add(1, [0, 2, 0] + Array("me".utf8))
    if input.byte() & 3 != 0 {
      add(2, bytes(of: UInt16(1)) + bytes(of: UInt64(0)) + bytes(of: UInt64(0x40000)) + bytes(of: UInt16(0)))
    }
    while !input.isAtEnd, sent.count < 100_000 { act() }
    return sent
  }

  private mutating func act() {
    let choice = input.byte()
    switch choice & 7 {
    case 0: addPages(input.byte(), count: 1 + Int(choice >> 3 & 3))
    case 1: addPlan(count: 1 + Int(choice >> 3 & 3))
    case 2:
      let part = input.bytes(upTo: Int(input.byte()))
      state += part
      add(7, part)
    case 3: addEnd(isToVerify: choice >> 3 & 1)
    case 4: add(12, [])
    case 5: sent += input.bytes(upTo: Int(input.byte()))
    case 6: add(UInt16(input.byte()), input.bytes(upTo: Int(input.byte())))
    default: add(2, input.bytes(upTo: Int(input.byte())))
    }
  }

  private mutating func addPlan(count: Int) {
    add(
      5,
      (0..<count).flatMap { (_: Int) -> [UInt8] in
        bytes(of: UInt64(input.byte()) << 12 | UInt64(input.byte() & 1)) + bytes(of: UInt32(input.byte()))
      })
  }

  /// Pages of one byte repeated, with the digests that they have.
  private mutating func addPages(_ page: UInt8, count: Int) {
    let data = (0..<count).map { _ in [UInt8](repeating: input.byte(), count: 4096) }
    let digests = data.flatMap { bytes(of: GuestMemory.digest(of: $0)) }
    add(6, bytes(of: UInt64(page) << 12) + bytes(of: GuestMemory.digest(of: digests)), data.flatMap { $0 })
  }

  private mutating func addEnd(isToVerify: UInt8) {
    let counts = [UInt64(input.byte()), UInt64(input.byte()), UInt64(state.count), GuestMemory.digest(of: state)]
    add(8, counts.flatMap { bytes(of: $0) } + [isToVerify])
  }

  private mutating func add(_ kind: UInt16, _ payload: [UInt8], _ data: [UInt8] = []) {
    var header = bytes(of: kind) + [0, 0] + bytes(of: number)
    header += bytes(of: UInt32(payload.count)) + bytes(of: UInt32(data.count))
    header += bytes(of: GuestMemory.digest(of: payload))
    sent += header + bytes(of: GuestMemory.digest(of: header)) + payload + data
    number &+= 1
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
