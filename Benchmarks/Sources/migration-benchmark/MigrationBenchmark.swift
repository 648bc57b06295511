import GuestRAM
import LinuxIO
import Migration

/// Moves guests to another process over unix sockets: how long that takes, how long the guest stands still, and what it
/// costs the guest to be watched.
///
/// `receive` and `send` are one move, for a script that wants to time it beside others; all else is a table.
@main
struct MigrationBenchmark {
  static let usage = """
    migration-benchmark idle       guests with 128 and 512 MiB in use, of 2 and 8 GiB
    migration-benchmark downtime [MIB]…
                                   a guest that writes 10 000 pages a second while it is moved, with so much in use
    migration-benchmark tracking   what a guest loses that writes 10 000 pages a second while it is watched
    migration-benchmark receive PATH CONNECTIONS file|private|huge
    migration-benchmark send PATH CONNECTIONS RANDOM-MIB ZERO-MIB SIZE-MIB    starts when its input ends
    """

  static func main() throws {
    let words = Array(CommandLine.arguments.dropFirst())
    switch words.first {
    case "idle" where words.count == 1: try idle()
    case "downtime": try downtime(words.count > 1 ? words[1...].compactMap { Int($0) } : [128, 512, 1536])
    case "tracking" where words.count == 1: try Tracking.run()
    case "receive" where words.count == 4: try Move.receive(words[1], Int(words[2]) ?? 1, words[3])
    case "send" where words.count == 6:
      let numbers = words[2...].map { Int($0) ?? 0 }
      let guest = try Filled(randomMiB: numbers[1], zeroMiB: numbers[2], sizeMiB: numbers[3])
      print("filled")
      flush()
      while readLine() != nil {}
      print(text(try Move.send(guest.memory, words[1], numbers[0]).seconds, 3))
    default: print(usage)
    }
  }

  /// Time has to grow with the memory in use, and not with its size.
  private static func idle() throws {
    print("a guest that stands still; seconds, best of 7\n\nin use   2 GiB   8 GiB")
    for used in [128, 512] {
      let guests = try [2, 8].map { try Filled(randomMiB: used, zeroMiB: 0, sizeMiB: $0 << 10) }
      var best = guests.map { (_) in Double.infinity }
      for _ in 0..<7 {
        // In turns, so that a busy machine is unfair to both.
        for (index, guest) in guests.enumerated() {
          let report = try Move.toChild(connections: 2) { try Move.send(guest.memory, $0, 2) }
          best[index] = min(best[index], report.seconds)
        }
      }
      print(pad("\(used)", 6) + best.map { pad(text($0, 3), 8) }.joined())
      flush()
    }
  }

  private static func downtime(_ sizes: [Int]) throws {
    print("a guest of 2 GiB that writes 10 000 pages a second, 10 moves each, downtime in ms\n")
    print("in use   best  median  worst  passes")
    for used in sizes {
      var times: [Double] = []
      var passCount = 0
      for _ in 0..<10 {
        let guest = try Filled(randomMiB: used, zeroMiB: 0, sizeMiB: 2 << 10)
        let report = try Move.toChild(connections: 2) { try Move.live(guest.memory, $0, 2, pageCount: used << 8) }
        times.append((report.downtimeSeconds ?? 0) * 1000)
        passCount = max(passCount, report.passCount)
      }
      times.sort()
      print(
        pad("\(used)", 6) + pad(text(times[0], 1), 7) + pad(text(times[5], 1), 8) + pad(text(times[9], 1), 7)
          + pad("\(passCount)", 8))
      flush()
    }
  }

  /// So many digits after the point.
  static func text(_ number: Double, _ digits: Int) -> String {
    let unit = (0..<digits).reduce(1) { (unit, _) in unit * 10 }
    let whole = Int((abs(number) * Double(unit)).rounded())
    let fraction = "\(whole % unit)"
    return (number < 0 ? "-" : "") + "\(whole / unit)."
      + String(repeating: "0", count: digits - fraction.count) + fraction
  }

  static func pad(_ text: String, _ width: Int) -> String {
    String(repeating: " ", count: max(0, width - text.count)) + text
  }
}

/// A guest's memory: random bytes, then zeros that were written, then nothing.
struct Filled {
  let memory: GuestMemory

  init(randomMiB: Int, zeroMiB: Int, sizeMiB: Int) throws {
    memory = try GuestMemory(byteCount: UInt64(sizeMiB) << 20)
    var numbers = SeededNumbers(seed: 1)
    let words = (0..<1 << 17).map { _ in numbers.next() }
    for part in 0..<randomMiB {
      // Each MiB is another one, and no page of it like another.
      let bytes = words.map { $0 ^ UInt64(part) &* 0x9E37_79B9_7F4A_7C15 }.withUnsafeBytes { Array($0) }
      try memory.write(bytes: bytes, at: GuestAddress(UInt64(part) << 20))
    }
    let zeros = [UInt8](repeating: 0, count: 1 << 20)
    for part in randomMiB..<randomMiB + zeroMiB {
      try memory.write(bytes: zeros, at: GuestAddress(UInt64(part) << 20))
    }
  }
}
