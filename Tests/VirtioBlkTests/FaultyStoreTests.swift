import GuestRAM
import LinuxIO
import Testing
import VirtioBlk

@Suite("Faulty store") struct FaultyStoreTests {
  private func store(_ rules: FaultRule..., seed: UInt64 = 0) throws -> (FaultyStore, StoreProbe) {
    let store = FaultyStore(try FileStore(inMemory: 1 << 20), rules: rules, seed: seed)
    return (store, try StoreProbe(store))
  }

  /// Which of so many reads fail.
  private func failures(_ probe: StoreProbe, _ count: Int) -> [Int] {
    (1...count).filter { _ in
      do {
        _ = try probe.read(512, at: 0)
        return false
      } catch { return error as? StoreError == .injected }
    }
  }

  @Test("a rule strikes the kinds that it names and leaves the medium alone")
  func kinds() throws {
    let (_, probe) = try store(FaultRule(.failure, of: [.write, .flush]))
    #expect(throws: StoreError.injected) { try probe.write([UInt8](repeating: 1, count: 512), at: 0) }
    #expect(throws: StoreError.injected) { try probe.perform(.flush) }
    try probe.perform(.discard(0..<4096))
    #expect(try probe.read(512, at: 0) == [UInt8](repeating: 0, count: 512))
  }

  @Test("a rule strikes the bytes that it names, up to the last and from the first")
  func bytes() throws {
    let (_, probe) = try store(FaultRule(.failure, in: 4096..<8192))
    _ = try probe.read(4096, at: 0)
    _ = try probe.read(512, at: 8192)
    try probe.perform(.flush)
    #expect(throws: StoreError.injected) { try probe.read(4608, at: 0) }
    #expect(throws: StoreError.injected) { try probe.read(512, at: 7680) }
    #expect(throws: StoreError.injected) { try probe.perform(.discard(0..<65536)) }
  }

  @Test("every n-th, the first n, and none")
  func occurrences() throws {
    #expect(failures(try store(FaultRule(.failure, .every(3))).1, 9) == [3, 6, 9])
    #expect(failures(try store(FaultRule(.failure, .first(2))).1, 5) == [1, 2])
    #expect(failures(try store(FaultRule(.failure, .every(0))).1, 5) == [])
  }

  @Test("the same seed strikes the same operations, another one others")
  func seeds() throws {
    let rule = FaultRule(.failure, .probability(0.5))
    let first = failures(try store(rule, seed: 1).1, 64)
    #expect(first == failures(try store(rule, seed: 1).1, 64))
    #expect(first != failures(try store(rule, seed: 2).1, 64))
  }

  @Test("an operation that may be struck waits, and is counted when it does")
  func waits() throws {
    let (store, probe) = try store(FaultRule(.failure, .first(1)))
    var data = BlockData.at(probe.memory, byteCount: 512)
    for _ in 0..<3 { #expect(try !store.perform(.read(at: 0), &data, mayWait: false)) }
    #expect(failures(probe, 2) == [1])
    store.rules = []
    #expect(try store.perform(.read(at: 0), &data, mayWait: false))
  }

  @Test("an operation is carried out after its delay")
  func delay() throws {
    let (_, probe) = try store(FaultRule(.delay(.milliseconds(3))))
    let start = MonotonicClock.now
    try probe.write([UInt8](repeating: 7, count: 512), at: 512)
    #expect(MonotonicClock.now - start >= 3_000_000)
    #expect(try probe.read(512, at: 512) == [UInt8](repeating: 7, count: 512))
  }
}
