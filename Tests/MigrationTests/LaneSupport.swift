import GuestRAM
import LinuxIO
import Support
import Synchronization

@testable import Migration

/// A guest with enough memory that several connections have something to do.
struct WideGuest {
  static let byteCount: UInt64 = 40 << 20
  let memory: GuestMemory
  let state: [UInt8] = [1, 2, 3]

  /// Every page holds its number, but for some that are zero or were never touched.
  /// - Parameter isDense: whether those are few.
  init(isDense: Bool = false, byteCount: UInt64 = byteCount) throws {
    memory = try GuestMemory(byteCount: byteCount)
    let (empty, zero): (UInt64, UInt64) = isDense ? (3001, 5003) : (7, 5)
    for page in 0..<byteCount / pageByteCount where page % empty != 0 {
      try memory.write(page % zero == 0 ? 0 : page, at: address(page * pageByteCount))
    }
  }

  /// The digest of each page.
  static func digests(_ memory: GuestMemory) throws -> [UInt64] {
    var digests: [UInt64] = []
    try memory.appendPageDigests(of: memory.regions[0].range, to: &digests)
    return digests
  }
}

/// The connections of a move: the first, and further ones in the order in which the destination gets them.
struct LaneLinks {
  let main: TestLinks
  let lanes: [TestLinks]
  /// Connections that nobody of the move has made.
  var strangers: [TestLink] = []

  /// - Parameters:
  ///   - source: what becomes of what the source sends on a further connection.
  ///   - isGated: whether the source sends nothing on the first connection until all others have begun.
  init(count: Int, source: TestLink.Tamper? = nil, isGated: Bool = true) throws {
    let gate = try Semaphore()
    let shared = SharedGate(gate)
    // Before it are the opening, the description and the offer; on the others the opening and their number.
    main = try TestLinks(source: { (index, _) in
      if isGated, index == 3 { for _ in 0..<count { shared.wait() } }
      return nil
    })
    lanes = try (0..<count).map { _ in
      try TestLinks(source: { (index, message) in
        if index == 2 { shared.signal() }
        return source?(index, message)
      })
    }
  }

  /// What the destination gets one after another; then nobody comes.
  var accepting: @Sendable (Duration) throws(MigrationError) -> any Channel {
    let waiting = SharedLinks(strangers + lanes.reversed().map(\.destination))
    return { (_) throws(MigrationError) in
      guard let link = waiting.take() else { throw .peerStalled }
      return link
    }
  }

  func shutDown(_ side: KeyPath<TestLinks, TestLink>) {
    for links in [main] + lanes { links[keyPath: side].shutDown() }
  }
}

/// A semaphore that several threads may keep.
final class SharedGate: Sendable {
  private let semaphore: Semaphore
  init(_ semaphore: consuming Semaphore) { self.semaphore = semaphore }
  func wait() { semaphore.wait() }
  func signal() { semaphore.signal() }
}

private final class SharedLinks: Sendable {
  private let links: Mutex<[TestLink]>
  init(_ links: [TestLink]) { self.links = Mutex(links) }
  func take() -> TestLink? { links.withLock { $0.isEmpty ? nil : $0.removeFirst() } }
}

let wideLimits = DestinationLimits(mostMemory: 64 << 20, time: patience)

/// Runs a destination in a thread beside a source.
func move(
  over links: LaneLinks, accepts: Bool = true, limits: DestinationLimits = wideLimits,
  makeMemory: @escaping @Sendable (GuestDescription) throws(GuestMemoryError) -> GuestMemory = {
    (description) throws(GuestMemoryError) in try description.makeMemory()
  },
  _ source: () throws(MigrationError) -> MigrationReport
) throws -> Move {
  let received = try Handover<Outcome<Move.Arrived>>()
  let accepting = accepts ? links.accepting : nil
  let thread = try Thread(name: "destination") {
    received.put(
      outcome { () throws(MigrationError) in
        var destination = Destination(links.main.destination, producer: "destination", limits: limits)
        let guest = try destination.receive(makeMemory: makeMemory, accepting: accepting)
        return Move.Arrived(guest: guest, report: try destination.confirm())
      })
    links.shutDown(\.destination)
  }
  let sent = outcome { () throws(MigrationError) in try source() }
  links.shutDown(\.source)
  thread.join()
  return Move(source: sent, destination: received.wait())
}

func move(
  _ guest: WideGuest, over links: LaneLinks, accepts: Bool = true, limits: DestinationLimits = wideLimits
) throws -> Move {
  try move(over: links, accepts: accepts, limits: limits) { () throws(MigrationError) in
    try Source(links.main.source, further: links.lanes.map(\.source), producer: "source", timeLimit: limits.time)
      .move(guest.memory, state: guest.state)
  }
}
