import GuestRAM
import LinuxIO
import Support

@testable import Migration

/// A move whose guest may run at the destination before its pages are there, over one connection after the other.
struct LateMove {
  let source: Outcome<MigrationReport>
  let destination: Outcome<MigrationReport>
  /// What has arrived; nil when it was not taken that far.
  let arrived: ArrivedGuest?
  /// Whether the destination was told to let the guest run.
  let hasStarted: Bool
  /// Whether all that the guest read there was what it had at the source.
  let hasReadRight: Bool
  let guest: ScriptedGuest
  let events: [MigrationEvent]
}

/// The destination's part, and the guest that runs there: it reads all of its memory in a random order.
private struct Arrival: Sendable {
  let links: [TestLinks]
  let expected: [UInt64: UInt64]
  let seed: UInt64
  let limits: DestinationLimits
  let restoring: @Sendable (GuestMemory) -> Void

  struct Result: Sendable {
    var outcome: Outcome<MigrationReport> = .failure(.peerGone)
    var arrived: ArrivedGuest?
    var hasStarted = false
    var hasReadRight = false
  }

  func run() -> Result {
    var result = Result()
    var reader: Thread?
    let isRight = Monitor(true)
    let reading: @Sendable (GuestMemory) -> Bool = { readsRight($0) }
    result.outcome = outcome { () throws(MigrationError) in
      var destination = Destination(links[0].destination, producer: "destination", limits: limits)
      let guest = try destination.receive()
      result.arrived = guest
      restoring(guest.memory)
      var next = 1
      return try destination.confirm {
        result.hasStarted = true
        reader = try? Thread(name: "guest") {
          if !reading(guest.memory) { isRight.withLock { $0 = false } }
        }
      } recovering: { (_) in
        defer { next += 1 }
        links[next - 1].destination.shutDown()
        return next < links.count ? links[next].destination : nil
      }
    }
    for link in links { link.destination.shutDown() }
    if result.outcome.error != nil { result.arrived?.late?.abandon() }
    reader?.join()
    result.hasReadRight = isRight.withLock { $0 }
    return result
  }

  private func readsRight(_ memory: GuestMemory) -> Bool {
    var generator = SeededGenerator(seed: seed)
    return expected.keys.shuffled(using: &generator).allSatisfy { (page) in
      (try? memory.digest(GuestRange(start: address(page), byteCount: pageByteCount))) == expected[page]
    }
  }
}

/// Moves a guest that writes nothing but what its script says before it is stopped, over the first of these connections
/// that works; each is cut once a side goes on to the next.
func movePostcopy(
  _ guest: ScriptedGuest, over links: [TestLinks], _ policy: MigrationPolicy, limits: DestinationLimits = limits,
  expecting expected: [UInt64: UInt64], seed: UInt64 = 1, unless cancellation: Cancellation? = nil,
  restoring: @escaping @Sendable (GuestMemory) -> Void = { _ in }, watch: (MigrationEvent) -> Void = { _ in }
) throws -> LateMove {
  let arrival = Arrival(links: links, expected: expected, seed: seed, limits: limits, restoring: restoring)
  let received = try Handover<Arrival.Result>()
  let thread = try Thread(name: "destination") { received.put(arrival.run()) }
  var (guest, events, next) = (guest, [MigrationEvent](), 1)
  let sent: Outcome<MigrationReport>
  do throws(MigrationError) {
    let report = try Source(links[0].source, producer: "source", timeLimit: limits.time)
      .move(&guest, policy: policy, unless: cancellation) {
        events.append($0)
        watch($0)
      } recovering: { (_) in
        defer { next += 1 }
        links[next - 1].source.shutDown()
        return next < links.count ? links[next].source : nil
      }
    sent = .success(report)
  } catch {
    sent = .failure(error)
  }
  for link in links { link.source.shutDown() }
  thread.join()
  let result = received.wait()
  return LateMove(
    source: sent, destination: result.outcome, arrived: result.arrived, hasStarted: result.hasStarted,
    hasReadRight: result.hasReadRight, guest: guest, events: events)
}

/// The digest of each page of a guest, by its address. Pages without memory get none by it.
func digests(of memory: GuestMemory) throws -> [UInt64: UInt64] {
  let zeros = GuestMemory.digest(of: [UInt8](repeating: 0, count: Int(pageByteCount)))
  var digests: [UInt64: UInt64] = [:]
  func forEachPage(of range: GuestRange, _ body: (UInt64) throws -> Void) rethrows {
    for offset in stride(from: 0, to: range.byteCount, by: Int(pageByteCount)) {
      try body(range.start.rawValue + offset)
    }
  }
  for region in memory.regions { forEachPage(of: region.range) { digests[$0] = zeros } }
  for range in try memory.residentPages() {
    try forEachPage(of: range) {
      digests[$0] = try memory.digest(GuestRange(start: address($0), byteCount: pageByteCount))
    }
  }
  return digests
}
