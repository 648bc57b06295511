import Glibc

/// How fast a guest writes, as what it has written after a time: pages written twice count once.
///
/// A guest that writes pages at random out of a working set has written S · (1 - e^(-r·t/S)) bytes of it after t seconds,
/// with S the working set and r the rate at which it begins. Both come from what was seen after a time and after four
/// times that.
public struct WriteRate: Equatable, Sendable {
  /// At first, when every page written is a new one.
  public let bytesPerSecond: Double
  /// What is written over and over, in bytes; infinite for a guest that does not come back to its pages.
  public let workingSetByteCount: Double

  /// - Parameters:
  ///   - seconds: the shorter time; a nanosecond if it is none.
  ///   - first: bytes of pages written within it; none if it is no number.
  ///   - second: bytes of pages written within four times as long, begun anew or not; likewise.
  public init(seconds: Double, first: Double, second: Double) {
    // Of no number at all the greater is the other.
    let (seconds, first, second) = (max(1e-9, seconds), max(0, first), max(0, second))
    guard first > 0, second > first else {
      workingSetByteCount = max(first, second)
      bytesPerSecond = first > 0 ? Self.mostTurns * first / seconds : second / (4 * seconds)
      return
    }
    // Closer to a line than can be told apart.
    guard second < 3.96 * first else {
      workingSetByteCount = .infinity
      bytesPerSecond = max(first / seconds, second / (4 * seconds))
      return
    }
    let set = Self.workingSet(first, second)
    workingSetByteCount = set
    bytesPerSecond = -set * log(max(1 - first / set, Self.leastLeft)) / seconds
  }

  /// A guest that has written all of its working set within the first time may write it this many times over.
  private static var mostTurns: Double { -log(leastLeft) }
  private static var leastLeft: Double { 0.001 }

  /// Solves S · (1 - (1 - first/S)^4) = second, which rises with S from `first` to 4 · `first`.
  private static func workingSet(_ first: Double, _ second: Double) -> Double {
    var (low, high) = (first, first * 1000)
    for _ in 0..<80 {
      let middle = (low + high) / 2
      if middle * (1 - pow(1 - first / middle, 4)) < second { low = middle } else { high = middle }
    }
    return high
  }

  /// How many bytes of pages are written within so many seconds.
  public func byteCount(after seconds: Double) -> Double {
    // Nothing in eternity, and all there is in no time, are no numbers.
    guard bytesPerSecond > 0, seconds > 0 else { return 0 }
    guard workingSetByteCount.isFinite else { return bytesPerSecond * seconds }
    return workingSetByteCount * (1 - exp(-bytesPerSecond * seconds / workingSetByteCount))
  }

  /// The same guest, allowed to run for a share of the time only, from 0 to 1.
  public func slowed(to share: Double) -> WriteRate {
    WriteRate(bytesPerSecond: bytesPerSecond * min(max(0, share), 1), workingSetByteCount: workingSetByteCount)
  }

  private init(bytesPerSecond: Double, workingSetByteCount: Double) {
    self.bytesPerSecond = bytesPerSecond
    self.workingSetByteCount = workingSetByteCount
  }
}
