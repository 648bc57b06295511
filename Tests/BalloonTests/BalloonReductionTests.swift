import Support
import Testing

@testable import Balloon

/// A guest of 1 GiB that moves so many pages each tenth of a second, seen through its balloon.
private struct ScriptedBalloon {
  static let byteCount: UInt64 = 1 << 30
  var time: UInt64 = 1_000_000_000
  var pageCount: UInt32 = 0
  var target: UInt32 = 0
  var pagesPerTick: UInt32 = 8192
  /// The most that the driver finds to give.
  var mostPages = UInt32.max
  /// What would be available without a balloon, in bytes; nil for a guest without statistics.
  var available: UInt64?
  var kills: UInt64?
  var swapped: UInt64?
  private(set) var leastAvailable = UInt64.max

  init(available: UInt64? = nil) {
    self.available = available
  }

  var availableNow: UInt64? {
    available.map { $0 - min($0, UInt64(pageCount) * 4096) }
  }

  mutating func tick() {
    time += 100_000_000
    if pageCount < target { pageCount = min(pageCount + pagesPerTick, target, max(pageCount, mostPages)) }
    if pageCount > target { pageCount -= min(pagesPerTick, pageCount - target) }
    if let availableNow { leastAvailable = min(leastAvailable, availableNow) }
  }

  var observation: BalloonObservation {
    BalloonObservation(
      time: time, pageCount: pageCount, available: availableNow.map { .fresh($0, age: 1) } ?? .neverReported,
      outOfMemoryKills: kills, swappedOutByteCount: swapped)
  }

  /// Does what is said until it is over.
  mutating func shrink(
    _ policy: BalloonReductionPolicy, meanwhile: (inout ScriptedBalloon) -> Void = { _ in }
  ) throws -> (BalloonReduction.Outcome, steps: [UInt32]) {
    var reduction = try BalloonReduction(policy, of: Self.byteCount)
    var steps: [UInt32] = []
    for _ in 0..<5000 {
      switch reduction.next(observation) {
      case .wait: break
      case .set(let next):
        target = next.pageCount
        steps.append(target)
      case .finish(let last, let outcome):
        target = last.pageCount
        for _ in 0..<200 where pageCount != target { tick() }
        return (outcome, steps)
      }
      tick()
      meanwhile(&self)
    }
    throw Endless()
  }

  struct Endless: Error {}
}

@Suite("Balloon reduction") struct BalloonReductionTests {
  private let half = BalloonReductionPolicy(memoryByteCount: 512 << 20)

  private func policy(keeping floor: UInt64) -> BalloonReductionPolicy {
    BalloonReductionPolicy(memoryByteCount: 512 << 20, leastAvailableByteCount: floor, stepByteCount: 64 << 20)
  }

  @Test("without a look at statistics the target is asked for at once")
  func atOnce() throws {
    var guest = ScriptedBalloon()
    let (outcome, steps) = try guest.shrink(half)
    #expect(outcome == .reachedTarget && steps == [131_072] && guest.pageCount == 131_072)
  }

  @Test("a guest that is small enough already is left as it is")
  func already() throws {
    var guest = ScriptedBalloon()
    (guest.pageCount, guest.target) = (200_000, 200_000)
    let (outcome, steps) = try guest.shrink(half)
    #expect(outcome == .reachedTarget && steps.isEmpty && guest.pageCount == 200_000)
  }

  @Test("with a floor it goes in steps, and reaches a target that leaves enough")
  func steps() throws {
    var guest = ScriptedBalloon(available: 800 << 20)
    let (outcome, steps) = try guest.shrink(policy(keeping: 128 << 20))
    #expect(outcome == .reachedTarget && guest.pageCount == 131_072)
    #expect(steps == (1...8).map { $0 * 16_384 })
    #expect(guest.leastAvailable >= 128 << 20)
  }

  @Test("it ends within a MiB of the floor, and never below")
  func floor() throws {
    var guest = ScriptedBalloon(available: (300 << 20) + 12_345)
    let (outcome, _) = try guest.shrink(policy(keeping: 128 << 20))
    guard case .availableFloor(let left) = outcome else { return #expect(Bool(false), "\(outcome)") }
    #expect(left >= 128 << 20 && left < 129 << 20 && guest.leastAvailable == left)
  }

  @Test("a guest that needs memory itself meanwhile gets back what it lacks")
  func givesBack() throws {
    var guest = ScriptedBalloon(available: 800 << 20)
    let (outcome, _) = try guest.shrink(policy(keeping: 128 << 20)) {
      if $0.pageCount > 100_000 { $0.available = 450 << 20 }
    }
    guard case .availableFloor(let seen) = outcome else { return #expect(Bool(false), "\(outcome)") }
    #expect(seen < 128 << 20)
    #expect(try #require(guest.availableNow) >= 128 << 20)
  }

  @Test("a driver that has no more to give ends it, and is not asked for more than it gave")
  func stuck() throws {
    var guest = ScriptedBalloon()
    guest.mostPages = 50_000
    let (outcome, _) = try guest.shrink(half)
    #expect(outcome == .noProgress && guest.pageCount == 50_000 && guest.target == 50_000)
    // 7 ticks to get there, then its patience.
    #expect(guest.time - 1_000_000_000 <= half.patience + 800_000_000)
  }

  @Test("without the statistics that it needs nothing is taken")
  func silent() throws {
    var guest = ScriptedBalloon()
    let (outcome, steps) = try guest.shrink(policy(keeping: 128 << 20))
    #expect(outcome == .noStatistics && steps.isEmpty)
  }

  @Test("values older than the last page that moved are no reason to take more")
  func old() throws {
    var reduction = try BalloonReduction(policy(keeping: 128 << 20), of: 1 << 30)
    func seen(_ time: UInt64, _ pageCount: UInt32, age: UInt64) -> BalloonObservation {
      BalloonObservation(time: time, pageCount: pageCount, available: .stale(800 << 20, age: age))
    }
    #expect(reduction.next(seen(1_000, 0, age: 5)) == .wait)
    #expect(reduction.next(seen(2_000, 0, age: 5)) == .set(BalloonTarget(pageCount: 16_384)))
    #expect(reduction.next(seen(3_000, 16_384, age: 500)) == .wait)
    #expect(reduction.next(seen(4_000, 16_384, age: 1_500)) == .wait)
    #expect(reduction.next(seen(5_000, 16_384, age: 1_500)) == .set(BalloonTarget(pageCount: 32_768)))
  }

  @Test("a guest that has to kill a program gets the last step back")
  func kills() throws {
    var guest = ScriptedBalloon(available: 800 << 20)
    let (outcome, _) = try guest.shrink(policy(keeping: 128 << 20)) {
      // The first word of the count is what there was before.
      $0.kills = $0.pageCount > 90_000 ? 9 : 7
    }
    #expect(outcome == .outOfMemoryKills(2) && guest.pageCount == 81_920)
  }

  @Test("a little swapping does not matter, more ends it", arguments: [16, 17] as [UInt64])
  func swaps(mebibytes: UInt64) throws {
    var guest = ScriptedBalloon(available: 800 << 20)
    guest.swapped = 5
    let (outcome, _) = try guest.shrink(policy(keeping: 128 << 20)) { $0.swapped = 5 + mebibytes << 20 }
    #expect(outcome == (mebibytes == 16 ? .reachedTarget : .swapping(17 << 20)))
  }

  @Test("a driver that is too slow is left with what it has given when the time is over")
  func slow() throws {
    var guest = ScriptedBalloon()
    guest.pagesPerTick = 100
    var policy = half
    policy.limit = 10_000_000_000
    let (outcome, _) = try guest.shrink(policy)
    #expect(outcome == .outOfTime && guest.pageCount < 131_072 && guest.time <= 12_000_000_000)
  }

  @Test("whatever a guest does, it ends in time, within the target, and leaves the floor if the guest lets it")
  func random() throws {
    var numbers = SeededGenerator(for: "balloon reduction")
    for _ in 0..<200 {
      var guest = ScriptedBalloon(available: numbers.next() % (900 << 20))
      guest.pagesPerTick = 1 + UInt32(numbers.next() % 30_000)
      guest.mostPages = UInt32(numbers.next() % 300_000)
      let changes = numbers.next() % 2 == 0
      let floor = numbers.next() % (256 << 20)
      let policy = policy(keeping: floor)
      let start = guest.available ?? 0
      var own = numbers
      let (outcome, _) = try guest.shrink(policy) {
        guard changes, own.once(in: 20) else { return }
        $0.available = own.next() % (900 << 20)
      }
      let seed = numbers.seed
      #expect(guest.pageCount <= 131_072, "VIRTIOKIT_SEED=\(seed)")
      #expect(guest.time < policy.limit + 40_000_000_000, "VIRTIOKIT_SEED=\(seed): \(outcome)")
      if !changes, start >= floor { #expect(guest.leastAvailable >= floor, "VIRTIOKIT_SEED=\(seed): \(outcome)") }
    }
  }

  @Test("5.5.4: a target that is no whole number of pages less, or more than there is, is refused")
  func refused() {
    for byteCount in [(1 << 30) + 4096, (512 << 20) + 1, 0] as [UInt64] {
      #expect(throws: BalloonError.self) {
        try BalloonReduction(BalloonReductionPolicy(memoryByteCount: byteCount), of: 1 << 30)
      }
    }
  }
}
