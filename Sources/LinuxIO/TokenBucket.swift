/// A rate that holds on average, with a burst allowed after a pause.
///
/// Tokens flow into the bucket at the rate and none fits beyond the burst. A take of more than a full bucket has to wait
/// for a full one and leaves it in debt, so that the rate holds for it too.
public struct TokenBucket: Equatable, Sendable {
  /// How fast and how much at once.
  public struct Rate: Equatable, Sendable {
    /// Tokens for each second, at least 1.
    public let perSecond: UInt64
    /// The most tokens that pass at once, at least 1.
    public let burst: UInt64

    /// - Parameter burst: what a second brings when nil.
    public init(perSecond: UInt64, burst: UInt64? = nil) {
      self.perSecond = max(1, perSecond)
      self.burst = max(1, burst ?? perSecond)
    }
  }

  public let rate: Rate
  /// When the bucket was or will be empty, in nanoseconds of the callers' clock: what it holds flowed in since.
  private var emptyMoment: UInt64

  /// A bucket that is full, on a clock that has run for as long as it takes to fill.
  public init(_ rate: Rate) {
    self.rate = rate
    emptyMoment = 0
  }

  /// How many nanoseconds until so many tokens can be taken.
  public func delay(of count: UInt64, now: UInt64) -> UInt64 {
    let ready = adding(nanoseconds(for: min(count, rate.burst)), to: lastEmptyMoment(now))
    return ready > now ? ready - now : 0
  }

  /// Takes tokens that flow in later if they are not there yet: whoever takes next waits behind.
  /// - Returns: how many nanoseconds to wait before they may be used.
  public mutating func take(_ count: UInt64, now: UInt64) -> UInt64 {
    let delay = delay(of: count, now: now)
    emptyMoment = adding(nanoseconds(for: count), to: lastEmptyMoment(now))
    return delay
  }

  /// Gives back what was taken and not used.
  public mutating func putBack(_ count: UInt64) {
    emptyMoment -= min(emptyMoment, nanoseconds(for: count))
  }

  /// A bucket that is full loses what flows in.
  private func lastEmptyMoment(_ now: UInt64) -> UInt64 {
    let capacity = nanoseconds(for: rate.burst)
    return max(emptyMoment, now > capacity ? now - capacity : 0)
  }

  /// How long it takes for tokens to flow in, rounded up; a century at most.
  private func nanoseconds(for count: UInt64) -> UInt64 {
    let century: UInt64 = 3_155_760_000_000_000_000
    let product = count.multipliedFullWidth(by: 1_000_000_000)
    guard product.high < rate.perSecond else { return century }
    let (quotient, remainder) = rate.perSecond.dividingFullWidth(product)
    return min(century, quotient &+ (remainder > 0 ? 1 : 0))
  }

  private func adding(_ duration: UInt64, to moment: UInt64) -> UInt64 {
    let (sum, overflow) = moment.addingReportingOverflow(duration)
    return overflow ? .max : sum
  }
}
