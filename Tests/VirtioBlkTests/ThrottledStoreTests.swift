import GuestRAM
import LinuxIO
import Synchronization
import Testing

@testable import VirtioBlk

@Suite("Throttled store") struct ThrottledStoreTests {
  /// A store with a clock that stands until it is moved.
  private final class Bench: Sendable {
    let now = Atomic<UInt64>(1_000_000_000_000)
    let memory: GuestMemory

    init() throws { memory = try GuestMemory(byteCount: 1 << 20) }

    func throttled(_ limits: ThrottleLimits) throws -> ThrottledStore {
      ThrottledStore(try NullStore(byteCount: 1 << 20), limits: limits) { [self] in now.load(ordering: .relaxed) }
    }

    func passes(_ operation: BlockOperation, _ byteCount: Int, _ store: any BlockStore) throws -> Bool {
      var data = BlockData.at(memory, byteCount: byteCount)
      return try store.perform(operation, &data, mayWait: false)
    }
  }

  private let one = TokenBucket.Rate(perSecond: 1, burst: 1)

  @Test("whoever cannot wait is turned away and takes no token")
  func turnedAway() throws {
    let bench = try Bench()
    let store = try bench.throttled(ThrottleLimits(all: .init(operations: one)))
    #expect(try bench.passes(.read(at: 0), 512, store))
    for _ in 0..<5 { #expect(try !bench.passes(.write(at: 0), 512, store)) }
    bench.now.add(1_000_000_000, ordering: .relaxed)
    #expect(try bench.passes(.write(at: 0), 512, store), "nothing was owed for the attempts")
  }

  @Test("reads and writes are limited apart")
  func apart() throws {
    let bench = try Bench()
    let store = try bench.throttled(ThrottleLimits(reads: .init(operations: one)))
    #expect(try bench.passes(.read(at: 0), 512, store))
    #expect(try !bench.passes(.read(at: 0), 512, store))
    for _ in 0..<5 { #expect(try bench.passes(.write(at: 0), 512, store)) }
  }

  @Test("bytes are limited by their number, a discard by none")
  func bytes() throws {
    let bench = try Bench()
    let rate = TokenBucket.Rate(perSecond: 4096)
    let store = try bench.throttled(ThrottleLimits(writes: .init(bytes: rate)))
    #expect(try bench.passes(.write(at: 0), 3072, store))
    #expect(try !bench.passes(.write(at: 0), 2048, store))
    #expect(try bench.passes(.discard(0..<65536), 0, store))
    #expect(try bench.passes(.write(at: 0), 1024, store))
  }

  @Test("a flush is never held up")
  func flush() throws {
    let bench = try Bench()
    let store = try bench.throttled(ThrottleLimits(all: .init(operations: one)))
    for _ in 0..<5 { #expect(try bench.passes(.flush, 0, store)) }
  }

  @Test("the token of an operation that the store has to wait for is put back")
  func putBack() throws {
    let bench = try Bench()
    let waiting = FaultyStore(try NullStore(byteCount: 1 << 20), rules: [FaultRule(.delay(.zero))])
    let store = ThrottledStore(waiting, limits: ThrottleLimits(all: .init(operations: one))) {
      bench.now.load(ordering: .relaxed)
    }
    #expect(try !bench.passes(.read(at: 0), 512, store))
    waiting.rules = []
    #expect(try bench.passes(.read(at: 0), 512, store))
  }

  @Test("whoever can wait waits for its turn")
  func waits() throws {
    let store = ThrottledStore(
      try NullStore(byteCount: 1 << 20),
      limits: ThrottleLimits(all: .init(operations: .init(perSecond: 200, burst: 1))))
    let probe = try StoreProbe(store)
    let start = MonotonicClock.now
    for _ in 0..<4 { _ = try probe.read(512, at: 0) }
    #expect(MonotonicClock.now - start >= 15_000_000)
  }

  @Test("new limits hold for those that wait already")
  func change() throws {
    let century = TokenBucket.Rate(perSecond: 1, burst: 1)
    let store = ThrottledStore(
      try NullStore(byteCount: 1 << 20), limits: ThrottleLimits(all: .init(bytes: century)))
    let probe = try StoreProbe(store)
    _ = try probe.read(1 << 20, at: 0)
    let isDone = Monitor(false)
    let thread = try Thread(name: "limits") {
      while !isDone.withLock({ $0 }) { store.throttle = ThrottleLimits() }
    }
    _ = try probe.read(512, at: 0)
    isDone.withLock { $0 = true }
    thread.join()
    #expect(store.throttle == ThrottleLimits())
  }
}
