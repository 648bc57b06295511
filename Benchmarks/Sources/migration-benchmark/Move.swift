import Glibc
import GuestRAM
import LinuxIO
import Migration

func flush() { fflush(nil) }

/// One move from this process to another.
enum Move {
  static let patience = Duration.seconds(30)

  /// Takes a guest in memory of some kind: in a file, of this process alone, or the same in huge pages.
  static func receive(_ path: String, _ connectionCount: Int, _ kind: String) throws {
    let listener = try MigrationListener(.unix(path: path))
    print("listening")
    flush()
    var destination = Destination(
      try listener.accept(within: patience), producer: "benchmark", limits: DestinationLimits(mostMemory: 1 << 40))
    let guest = try destination.receive(
      makeMemory: { (description) throws(GuestMemoryError) in
        if kind == "file" { return try description.makeMemory() }
        var regions: [MemoryRegion] = []
        for region in description.regions {
          regions.append(
            try MemoryRegion(anonymous: region.byteCount, start: region.start, hugePages: kind == "huge"))
        }
        return try GuestMemory(regions: regions)
      },
      accepting: connectionCount > 1 ? { (limit) throws(MigrationError) in try listener.accept(within: limit) } : nil)
    let report = try destination.confirm()
    precondition(report.connectionCount == connectionCount && !guest.memory.regions.isEmpty)
  }

  private static func connect(_ path: String, _ connectionCount: Int) throws(MigrationError) -> [MigrationLink] {
    var links: [MigrationLink] = []
    let end = MonotonicClock.moment(after: patience)
    while links.count < connectionCount {
      do throws(MigrationError) {
        links.append(try .connect(to: .unix(path: path), within: patience))
      } catch {
        // The other side may have to start first.
        guard MonotonicClock.now < end else { throw error }
        usleep(1000)
      }
    }
    return links
  }

  static func send(_ memory: GuestMemory, _ path: String, _ connectionCount: Int) throws -> MigrationReport {
    let links = try connect(path, connectionCount)
    return try Source(links[0], further: Array(links.dropFirst()), producer: "benchmark")
      .move(memory, state: [1], verifies: false)
  }

  static func live(
    _ memory: GuestMemory, _ path: String, _ connectionCount: Int, pageCount: Int
  ) throws -> MigrationReport {
    let links = try connect(path, connectionCount)
    var guest = try BusyGuest(memory, pageCount: pageCount)
    defer { guest.end() }
    return try Source(links[0], further: Array(links.dropFirst()), producer: "benchmark")
      .move(&guest, policy: MigrationPolicy(downtimeLimit: .milliseconds(5)))
  }

  /// Runs a move to a child that receives.
  static func toChild(connections: Int, _ body: (String) throws -> MigrationReport) throws -> MigrationReport {
    let path = "/tmp/migration-benchmark.\(getpid())"
    let child = try ChildProcess(
      "/proc/self/exe", ["receive", path, "\(connections)", "file"], streams: .init(output: .null))
    let report = try body(path)
    guard child.waitUntilExit() == .exit(0) else { throw MigrationError.peerGone }
    return report
  }
}

/// A guest that writes pages at random, 10 000 a second.
final class BusyGuest: LiveGuest {
  private struct Desk {
    var isPaused = false
    var isStopped = false
    var isOver = false
  }

  static let pagesPerMillisecond = 10

  let memory: GuestMemory
  private let desk: Monitor<Desk>
  private let forGuest = WakeUp()
  private let forMover = WakeUp()
  private var tracker: WriteTracker?
  private var thread: Thread?

  init(_ memory: GuestMemory, pageCount: Int) throws {
    self.memory = memory
    let desk = Monitor(Desk())
    self.desk = desk
    let (forGuest, forMover) = (forGuest, forMover)
    let body: @Sendable () -> Void = { Self.work(memory, pageCount, desk, forGuest, forMover) }
    thread = try Thread(name: "guest", body)
  }

  private static func work(
    _ memory: GuestMemory, _ pageCount: Int, _ desk: Monitor<Desk>, _ forGuest: WakeUp, _ forMover: WakeUp
  ) {
    var numbers = SeededNumbers(seed: 3)
    while true {
      let isOver = desk.wait(on: forGuest) { (desk) -> Bool? in
        if desk.isOver { return true }
        if desk.isPaused != desk.isStopped {
          desk.isStopped = desk.isPaused
          forMover.wakeAll()
        }
        return desk.isPaused ? nil : false
      }
      if isOver ?? true { return }
      for _ in 0..<pagesPerMillisecond {
        let page = Int.random(in: 0..<pageCount, using: &numbers)
        try? memory.write(numbers.next(), at: GuestAddress(UInt64(page) << 12))
      }
      usleep(1000)
    }
  }

  func beginTracking() throws(MigrationError) {
    do { tracker = try WriteTracker(memory) } catch { throw .memory(error) }
  }

  func takeWrites() throws(MigrationError) -> [GuestRange] {
    var ranges: [GuestRange] = []
    do { try tracker?.collect { ranges.append($0) } } catch { throw .memory(error) }
    return ranges
  }

  func endTracking() { tracker = nil }

  func pause() throws(MigrationError) -> [UInt8] {
    desk.withLock { $0.isPaused = true }
    forGuest.wakeAll()
    _ = desk.wait(on: forMover) { $0.isStopped ? true : nil }
    return [UInt8](repeating: 1, count: 4096)
  }

  func resume() {
    desk.withLock { $0.isPaused = false }
    forGuest.wakeAll()
  }

  func end() {
    desk.withLock { $0.isOver = true }
    forGuest.wakeAll()
    thread.take()?.join()
  }
}
