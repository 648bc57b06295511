import GuestRAM
import LinuxIO

/// What a guest that writes pages at a steady pace has left for other work, watched and not.
enum Tracking {
  private static let pagesPerSecond: UInt64 = 10_000
  private static let length: UInt64 = 1_000_000_000
  private static let rounds = 9

  static func run() throws {
    print("2 GiB in use, 10 000 pages written a second at random, writes asked for every 100 ms; median of \(rounds)\n")
    print("method         work lost  pages found a second")
    let guest = try Filled(randomMiB: 2048, zeroMiB: 0, sizeMiB: 2048)
    for method in WriteTracker.available {
      var losses: [Double] = []
      var found: UInt64 = 0
      for _ in 0..<rounds {
        let free = try work(guest.memory)
        let tracker = try WriteTracker(guest.memory, method: method)
        let end = MonotonicClock.now + length
        let counted = try Handover<UInt64>()
        let collector = try Thread(name: "collector") { counted.put(collect(tracker, until: end)) }
        let watched = try work(guest.memory)
        collector.join()
        found = counted.wait()
        tracker.stop()
        losses.append(1 - Double(watched) / Double(free))
      }
      losses.sort()
      let name = "\(method)"
      print(
        name + MigrationBenchmark.pad(MigrationBenchmark.text(losses[rounds / 2] * 100, 1), 22 - name.count) + " %"
          + MigrationBenchmark.pad("\(found)", 22))
    }
  }

  private static func collect(_ tracker: WriteTracker, until end: UInt64) -> UInt64 {
    var sum: UInt64 = 0
    while MonotonicClock.now < end {
      try? tracker.collect { sum += $0.byteCount / 4096 }
      let next = MonotonicClock.now + 100_000_000
      while MonotonicClock.now < min(next, end) { pause() }
    }
    return sum
  }

  private static func pause() { _ = try? Cancellation().wait(.milliseconds(1)) }

  /// Does small pieces of work for a second, and writes whenever a page is due.
  /// - Returns: how many pieces.
  private static func work(_ memory: GuestMemory) throws -> UInt64 {
    var numbers = SeededNumbers(seed: 5)
    let start = MonotonicClock.now
    var (count, written, sum): (UInt64, UInt64, UInt64) = (0, 0, 0)
    while true {
      let time = MonotonicClock.now - start
      if time >= length { break }
      for _ in 0..<200 { sum &+= numbers.next() }
      count += 1
      while written < time * pagesPerSecond / length {
        try memory.write(sum, at: GuestAddress(numbers.next() % 524_288 << 12))
        written += 1
      }
    }
    return count
  }
}
