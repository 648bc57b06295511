import GuestRAM
import LinuxIO
import Support
import Synchronization
import Testing

@testable import Migration

let pageByteCount: UInt64 = 4096

extension SeededGenerator {
  mutating func bytes(_ count: Int) -> [UInt8] {
    (0..<count).map { _ in UInt8(truncatingIfNeeded: next()) }
  }
}

func address(_ value: UInt64) -> GuestAddress { GuestAddress(value) }

/// Pages of guest memory, by number.
func pages(_ start: UInt64, _ count: UInt64) -> GuestRange {
  GuestRange(start: GuestAddress(start * pageByteCount), byteCount: count * pageByteCount)
}

/// A guest with two regions, data longer than a frame, single pages, pages of zeros, and pages never touched.
struct SampleGuest {
  static let regions = [pages(0, 64), pages(0x40000, 700)]
  static let data = [pages(0, 3), pages(7, 1), pages(40, 24), pages(0x40000 + 100, 300), pages(0x40000 + 699, 1)]
  static let zeros = [pages(3, 2), pages(8, 1), pages(0x40000 + 400, 90)]
  static var dataPageCount: UInt64 { data.reduce(0) { $0 + $1.byteCount } / pageByteCount }
  static var zeroPageCount: UInt64 { zeros.reduce(0) { $0 + $1.byteCount } / pageByteCount }

  let memory: GuestMemory
  let state: [UInt8]

  init(memory: GuestMemory, state: [UInt8]) {
    self.memory = memory
    self.state = state
  }

  init(stateByteCount: Int = 100_000) throws {
    var generator = SeededGenerator(seed: 4)
    memory = try GuestMemory(
      regions: Self.regions.map { try MemoryRegion(memoryFile: $0.byteCount, start: $0.start) })
    for range in Self.data {
      for offset in stride(from: 0, to: range.byteCount, by: 4096) {
        let page = [UInt8](repeating: 0, count: 4000) + generator.bytes(96)
        try memory.write(bytes: page, at: address(range.start.rawValue + offset))
      }
    }
    for range in Self.zeros {
      try memory.write(bytes: [UInt8](repeating: 0, count: Int(range.byteCount)), at: range.start)
    }
    state = generator.bytes(stateByteCount)
  }

  /// All bytes of the parts that have data, and where they are.
  static func contents(_ memory: GuestMemory) throws -> [[UInt8]] {
    try data.map { try memory.readBytes(Int($0.byteCount), at: $0.start) }
  }
}

typealias Outcome<Value: Sendable> = Result<Value, MigrationError>

extension Result where Failure == MigrationError {
  var error: MigrationError? {
    if case .failure(let error) = self { error } else { nil }
  }

  var value: Success? {
    if case .success(let value) = self { value } else { nil }
  }
}

func outcome<Value: Sendable>(_ body: () throws(MigrationError) -> Value) -> Outcome<Value> {
  do {
    return .success(try body())
  } catch {
    return .failure(error)
  }
}

/// What came of a move, on both sides.
struct Move {
  struct Arrived: Sendable {
    let guest: ArrivedGuest
    let report: MigrationReport
  }

  let source: Outcome<MigrationReport>
  let destination: Outcome<Arrived>
}

let limits = DestinationLimits(mostMemory: 16 << 20, mostState: 1 << 20, time: patience)

/// Moves a guest between two threads.
func move(
  _ guest: SampleGuest, over links: TestLinks, notes: [GuestDescription.Note] = [], verifies: Bool = true,
  limits: DestinationLimits = limits,
  makeMemory: @escaping @Sendable (GuestDescription) throws(GuestMemoryError) -> GuestMemory = {
    (description) throws(GuestMemoryError) in try description.makeMemory()
  },
  refusing: @escaping @Sendable (GuestDescription) -> String? = { _ in nil }
) throws -> Move {
  let received = try Handover<Outcome<Move.Arrived>>()
  let thread = try Thread(name: "destination") {
    received.put(
      outcome { () throws(MigrationError) in
        var destination = Destination(links.destination, producer: "destination", limits: limits)
        let guest = try destination.receive(makeMemory: makeMemory, refusing: refusing)
        return Move.Arrived(guest: guest, report: try destination.confirm())
      })
    links.destination.shutDown()
  }
  let sent = outcome { () throws(MigrationError) in
    try Source(links.source, producer: "source", timeLimit: limits.time)
      .move(guest.memory, state: guest.state, notes: notes, verifies: verifies)
  }
  links.source.shutDown()
  thread.join()
  return Move(source: sent, destination: received.wait())
}

func move(_ guest: SampleGuest, verifies: Bool = true, limits: DestinationLimits = limits) throws -> Move {
  try move(guest, over: TestLinks(), verifies: verifies, limits: limits)
}

/// Ends a test that cannot go on, and says why.
struct TestFailure: Error, CustomStringConvertible {
  let description: String

  init(_ description: String) { self.description = description }
}

/// A thread that is waited for.
final class Started: Sendable {
  private let thread: Mutex<Thread?>

  init(_ name: String, _ body: @escaping @Sendable () -> Void) throws {
    thread = Mutex(try Thread(name: name, body))
  }

  func join() { thread.withLock { $0.take() }?.join() }
}
