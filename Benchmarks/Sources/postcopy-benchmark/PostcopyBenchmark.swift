import GuestRAM
import LinuxIO
import Migration

/// How long a guest waits for pages that follow it: a guest full of noise goes to another thread over a UNIX socket before
/// any of its pages, and reads pages in a random order there, while all the others are sent too.
///
/// `postcopy-benchmark [MEBIBYTES]`: the size of the guest, 512 if not given.
@main enum PostcopyBenchmark {
  static func main() throws {
    let mebibytes = CommandLine.arguments.dropFirst().first.flatMap(UInt64.init) ?? 512
    let guest = try NoiseGuest(byteCount: mebibytes << 20)
    for work in [Work.atOnce, .now(pauseMicroseconds: 100)] {
      try run(guest, work).print(work, mebibytes)
    }
  }

  private static func run(_ guest: NoiseGuest, _ work: Work) throws -> Result {
    let listener = try MigrationListener(.unix(path: "/tmp/postcopy-benchmark.\(MonotonicClock.now)"))
    let received = try Handover<Swift.Result<MigrationReport, MigrationError>>()
    let byteCount = guest.memory.byteCount
    let thread = try Thread(name: "destination") {
      received.put(Swift.Result { () throws(MigrationError) in try arrive(at: listener, byteCount, work) })
    }
    var guest = guest
    let link = try MigrationLink.connect(to: listener.address, within: .seconds(5))
    let sent = try Source(link, producer: "benchmark")
      .move(&guest, policy: MigrationPolicy(postcopy: .afterPasses(0)))
    thread.join()
    return Result(source: sent, destination: try received.wait().get())
  }

  private static func arrive(
    at listener: MigrationListener, _ byteCount: UInt64, _ work: Work
  ) throws(MigrationError) -> MigrationReport {
    var destination = Destination(
      try listener.accept(within: .seconds(5)), producer: "benchmark",
      limits: DestinationLimits(mostMemory: byteCount, populatingThreadCount: 0))
    let memory = try destination.receive().memory
    return try destination.confirm {
      // Without the thread nothing is measured, and the report says so.
      _ = try? Thread(name: "guest") { work.read(memory) }
    }
  }

  private struct Result {
    let source: MigrationReport
    let destination: MigrationReport

    func print(_ work: Work, _ mebibytes: UInt64) {
      let waits = destination.pageWaits
      let (median, longest) = (Double(waits.median ?? 0) / 1e3, Double(waits.longest) / 1e3)
      let rate = Double(mebibytes << 20) / 1e6 / source.seconds
      Swift.print(
        """
        \(work): \(mebibytes) MiB in \((source.seconds * 100).rounded() / 100) s (\(Int(rate)) MB/s), stopped for \
        \(((source.downtimeSeconds ?? 0) * 1e5).rounded() / 100) ms; \(waits.count) waits, half of them at most \
        \(median) us, the longest \(longest) us
        """)
    }
  }
}

/// What the guest does where it has arrived.
enum Work: CustomStringConvertible {
  /// One page after the other, each at a random place.
  case atOnce
  /// Likewise, with something else to do in between.
  case now(pauseMicroseconds: UInt64)

  var description: String {
    switch self {
    case .atOnce: "touching pages one after the other"
    case .now(let pause): "touching a page each \(pause) us"
    }
  }

  func read(_ memory: GuestMemory) {
    var numbers = SystemRandomNumberGenerator()
    let pageCount = memory.byteCount / 4096
    for _ in 0..<min(20_000, pageCount) {
      let page = UInt64.random(in: 0..<pageCount, using: &numbers)
      guard (try? memory.read(UInt64.self, at: GuestAddress(page * 4096))) != nil else { return }
      if case .now(let pause) = self { spin(microseconds: pause) }
    }
  }

  private func spin(microseconds: UInt64) {
    let end = MonotonicClock.now + microseconds * 1000
    while MonotonicClock.now < end {}
  }
}

/// A guest that stands still, full of noise.
struct NoiseGuest: LiveGuest {
  let memory: GuestMemory

  init(byteCount: UInt64) throws {
    memory = try GuestMemory(regions: [MemoryRegion(memoryFile: byteCount, start: GuestAddress(0))])
    var numbers = SystemRandomNumberGenerator()
    let noise = (0..<(1 << 20)).map { (_) in UInt8.random(in: 1...255, using: &numbers) }
    for start in stride(from: 0, to: byteCount, by: 1 << 20) {
      try memory.write(bytes: noise, at: GuestAddress(start))
      try memory.write(start | 1, at: GuestAddress(start))
    }
  }

  mutating func beginTracking() {}
  mutating func takeWrites() -> [GuestRange] { [] }
  mutating func endTracking() {}
  mutating func pause() -> [UInt8] { [1] }
  mutating func resume() {}
}
