import Balloon
import GuestRAM
import LinuxIO

/// Inflates a balloon through `DeviceHost`, 256 frames a request as Linux does, and tells nanoseconds a frame: with
/// discards and without, by how the frames are ordered, beside a hole punched for each page.
@main
struct BalloonBenchmark {
  static let requestCount = 64
  static let framesPerRequest = 256
  static let firstFrame: UInt32 = 1024

  static func main() throws {
    var random = SystemRandomNumberGenerator()
    let rising = requests { $0 }
    let orders: [(String, [[UInt32]])] = [
      ("rising", rising), ("falling", rising.map { $0.reversed() }),
      ("shuffled", rising.map { $0.shuffled(using: &random) }), ("isolated", requests { 2 * $0 }),
    ]
    print("frames     device alone  device and discard  a hole a page   (ns a frame)")
    for (name, requests) in orders {
      let alone = try inflate(requests, NoReclaimer(), repetitions: 40)
      let discarding = try inflate(requests, MemoryReclaimer(), repetitions: 8)
      let floor = try punch(requests, repetitions: 8)
      print(pad(name, 9), pad(alone, 13), pad(discarding, 19), pad(floor, 14))
    }
  }

  private static func requests(_ frame: (UInt32) -> UInt32) -> [[UInt32]] {
    (0..<requestCount).map { request in
      (0..<framesPerRequest).map { firstFrame + frame(UInt32(request * framesPerRequest + $0)) }
    }
  }

  /// The best time of inflating all requests, per frame; pages are touched before each repetition.
  private static func inflate(
    _ requests: [[UInt32]], _ reclaimer: some PageReclaimer, repetitions: Int
  ) throws -> Double {
    let bench = try BalloonBench(requests, reclaimer)
    return try best(of: repetitions, prepare: bench.touch) { try bench.inflate() }
  }

  private static func punch(_ requests: [[UInt32]], repetitions: Int) throws -> Double {
    let bench = try BalloonBench(requests, NoReclaimer())
    return try best(of: repetitions, prepare: bench.touch) {
      for frame in requests.joined() {
        try bench.memory.discard(GuestRange(start: GuestAddress(UInt64(frame) * 4096), byteCount: 4096))
      }
    }
  }

  private static func best(of count: Int, prepare: () throws -> Void, _ work: () throws -> Void) throws -> Double {
    var best = UInt64.max
    for _ in 0..<count {
      try prepare()
      let start = MonotonicClock.now
      try work()
      best = min(best, MonotonicClock.now - start)
    }
    return Double(best) / Double(requestCount * framesPerRequest)
  }

  private static func pad(_ text: String, _ width: Int) -> String {
    text + String(repeating: " ", count: max(0, width - text.count))
  }

  private static func pad(_ value: Double, _ width: Int) -> String {
    let text = "\((value * 10).rounded() / 10)"
    return String(repeating: " ", count: max(0, width - text.count)) + text
  }
}
