import Support
import Testing

@testable import Migration

/// A cache of pages of 64 bytes, all the same.
private final class ByteCache {
  var cache: PageCache

  init(_ byteCount: Int) {
    cache = PageCache(byteCount: byteCount, pageByteCount: 64)
  }

  var pageCapacity: Int { cache.pageCapacity }

  func store(_ byte: UInt8, of page: UInt64) -> Bool {
    cache.store([UInt8](repeating: byte, count: 64).span, of: page)
  }

  func find(_ page: UInt64) -> UInt8? {
    cache.withPage(page) { $0[63] }
  }
}

@Suite("Codec: the cache of pages") struct PageCacheTests {
  @Test("a cache takes no more memory than it is given, and none at all if that is too little")
  func budget() {
    for byteCount in [0, 1, 151, 152, 1000, 100_000] {
      let cache = ByteCache(byteCount)
      #expect(cache.pageCapacity * (64 + 12) <= byteCount)
      #expect(byteCount < 152 ? cache.pageCapacity == 0 : cache.pageCapacity >= 2)
    }
  }

  @Test("a page is found as it was last stored, until it is removed; hits and misses are counted")
  func lookUp() {
    let cache = ByteCache(10_000)
    #expect(cache.find(5) == nil)
    #expect(cache.store(1, of: 5))
    #expect(cache.store(2, of: 5))
    #expect(cache.find(5) == 2)
    cache.cache.remove(5)
    cache.cache.remove(6)
    #expect(cache.find(5) == nil)
    #expect(cache.cache.hitCount == 1 && cache.cache.missCount == 2)
  }

  @Test("a cache without room keeps nothing")
  func noRoom() {
    let cache = ByteCache(0)
    #expect(!cache.store(1, of: 0))
    cache.cache.remove(0)
    #expect(cache.find(0) == nil)
  }

  @Test("a page gives its place away only when it has not been sent for two rounds")
  func age() {
    let cache = ByteCache(152)
    #expect(cache.pageCapacity == 2)
    cache.cache.startRound()
    #expect(cache.store(1, of: 1) && cache.store(2, of: 2))
    #expect(!cache.store(3, of: 3))
    cache.cache.startRound()
    #expect(!cache.store(3, of: 3))
    #expect(cache.find(2) == 2)
    cache.cache.startRound()
    #expect(cache.store(3, of: 3))
    #expect(cache.find(1) == nil)
    #expect(cache.find(2) == 2 && cache.find(3) == 3)
  }

  @Test("whatever is stored and removed, a page is found as it was last stored or not at all")
  func model() {
    var random = SeededGenerator(for: "page cache model")
    let cache = ByteCache(20 * 76)
    var model: [UInt64: UInt8] = [:]
    for _ in 0..<20_000 {
      let number = UInt64.random(in: 0..<60, using: &random)
      switch Int.random(in: 0..<100, using: &random) {
      case 0: cache.cache.startRound()
      case 1..<10:
        cache.cache.remove(number)
        model[number] = nil
      case 10..<50:
        let byte = UInt8.random(in: 0...255, using: &random)
        model[number] = cache.store(byte, of: number) ? byte : nil
      default:
        let found = cache.find(number)
        #expect(found == nil || found == model[number])
      }
    }
    #expect(cache.cache.hitCount > 1000)
  }

  @Test("consecutive pages that are as many as half the places nearly all find one")
  func spread() {
    let cache = ByteCache(2000 * 76)
    let kept = (0..<UInt64(cache.pageCapacity / 2)).count { cache.store(1, of: 1_000_000 + $0) }
    #expect(kept > cache.pageCapacity / 2 * 9 / 10)
  }
}
