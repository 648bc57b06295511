import GuestRAM
import LinuxIO
import Support
import Testing

@testable import VirtioBlk

/// What a server says wrong while it serves, by its rule.
@Suite("NBD replies") struct NBDReplyTests {
  /// Has one script answer a read of 4096 bytes at 8192.
  /// - Returns: what was read, or what was wrong.
  private func read(
    isStructured: Bool = true, _ script: @escaping @Sendable (borrowing NBDTestPeer, UInt64) throws -> Void
  ) -> Result<[UInt8], NBDError> {
    var bytes: [UInt8] = []
    let failure = nbdFailure {
      try NBDTestServer.run([
        { (peer) in
          try peer.negotiate(isStructured: isStructured)
          try script(peer, try peer.request().handle)
          // The client ends it, so that what it saw last was the script.
          _ = try? peer.receive(1)
        }
      ]) { bytes = try StoreProbe(try NBDStore($0)).read(4096, at: 8192) }
    }
    return failure.map { .failure($0) } ?? .success(bytes)
  }

  private func of(_ value: UInt8, _ byteCount: Int = 4096) -> [UInt8] { [UInt8](repeating: value, count: byteCount) }

  @Test("a simple reply brings all bytes")
  func simple() {
    #expect(read(isStructured: false) { try $0.simple($1, of(5)) } == .success(of(5)))
  }

  @Test("chunks of data and holes make up a reply in any order")
  func chunks() {
    let result = read { (peer, handle) in
      try peer.data(handle, at: 8192 + 3072, 1024, of: 3)
      try peer.chunk(handle, 2, big(8192 as UInt64) + big(2048 as UInt32))
      try peer.data(handle, at: 8192 + 2048, 1024, of: 2)
      try peer.chunk(handle, 0, isLast: true)
    }
    #expect(result == .success(of(0, 2048) + of(2, 1024) + of(3, 1024)))
  }

  @Test("an error is told with its number and words, simple or in a chunk")
  func errors() {
    #expect(read(isStructured: false) { try $0.simple($1, error: 5) } == .failure(.refused(number: 5, message: "")))
    #expect(read { try $0.simple($1, error: 28) } == .failure(.refused(number: 28, message: "")))
    let result = read { (peer, handle) in
      try peer.data(handle, at: 8192, 1024, of: 3)
      try peer.chunk(handle, 0x8001, big(22 as UInt32) + big(3 as UInt16) + Array("bad".utf8))
      try peer.chunk(handle, 0x8002, isLast: true, big(5 as UInt32) + big(0 as UInt16) + big(8192 as UInt64))
    }
    #expect(result == .failure(.refused(number: 22, message: "bad")))
  }

  @Test("bytes where a reply should begin")
  func magic() {
    #expect(read { (peer, _) in try peer.send(of(0xab, 16)) } == .failure(.illegalMagic(0xabab_abab)))
  }

  @Test("a handle that no request has")
  func handle() {
    #expect(read { try $0.simple($1 &+ 1) } == .failure(.unknownHandle(2)))
    #expect(read { (peer, _) in try peer.data(.max, at: 8192, 4096, of: 1) } == .failure(.unknownHandle(.max)))
  }

  @Test("bytes that were not asked for", arguments: [(0, 4096), (8191, 4096), (8192, 4097), (12287, 2), (.max, 4096)])
  func outside(offset: UInt64, byteCount: Int) {
    let expected = NBDError.chunkOutside(at: offset, byteCount: UInt64(byteCount))
    #expect(read { try $0.data($1, at: offset, byteCount, of: 1) } == .failure(expected))
    let hole = read { try $0.chunk($1, 2, big(offset) + big(UInt32(byteCount))) }
    #expect(hole == .failure(expected))
  }

  @Test("a chunk as long as can be said is not waited for")
  func endlessChunk() {
    let result = read { (peer, handle) in
      try peer.send(peer.chunkHeader(handle, 1, isLast: true, byteCount: .max), big(8192 as UInt64))
    }
    #expect(result == .failure(.chunkOutside(at: 8192, byteCount: UInt64(UInt32.max - 8))))
    let error = read { try $0.send($0.chunkHeader($1, 0x8001, isLast: true, byteCount: .max)) }
    #expect(error == .failure(.illegalChunkLength(type: 0x8001, byteCount: .max)))
  }

  @Test("bytes that come twice", arguments: [(8192, 1024), (9215, 1), (8192 + 512, 3584), (8191 + 1024, 1024)])
  func overlap(offset: UInt64, byteCount: Int) {
    let result = read { (peer, handle) in
      try peer.data(handle, at: 8192, 1024, of: 1)
      try peer.data(handle, at: offset, byteCount, of: 2)
    }
    #expect(result == .failure(.chunksOverlap(at: offset)))
  }

  @Test("a reply that ends before all bytes have come")
  func incomplete() {
    #expect(read { try $0.data($1, at: 8192, 4095, of: 1, isLast: true) } == .failure(.incomplete(missingByteCount: 1)))
    #expect(read { try $0.chunk($1, 0, isLast: true) } == .failure(.incomplete(missingByteCount: 4096)))
  }

  @Test("a reply of one byte at a time, all apart")
  func pieces() {
    let result = read { (peer, handle) in
      for place in stride(from: UInt64(8192), to: 12288, by: 2) { try peer.data(handle, at: place, 1, of: 1) }
    }
    #expect(result == .failure(.tooManyPieces))
  }

  @Test(
    "a length that the type of a chunk cannot have",
    arguments: [(0, 1), (1, 8), (1, 0), (2, 11), (2, 13), (0x8001, 5), (0x8001, 4096 + 15)] as [(UInt16, Int)])
  func lengths(type: UInt16, byteCount: Int) {
    let result = read { try $0.chunk($1, type, isLast: true, of(0, byteCount)) }
    #expect(result == .failure(.illegalChunkLength(type: type, byteCount: UInt32(byteCount))))
  }

  @Test("an empty chunk that is not the last, and a text longer than its chunk")
  func emptyChunk() {
    #expect(read { try $0.chunk($1, 0) } == .failure(.illegalChunkLength(type: 0, byteCount: 0)))
    let result = read { try $0.chunk($1, 0x8001, isLast: true, big(5 as UInt32) + big(1 as UInt16)) }
    #expect(result == .failure(.illegalChunkLength(type: 0x8001, byteCount: 6)))
  }

  @Test("a hole of no bytes")
  func emptyHole() {
    let result = read { try $0.chunk($1, 2, big(8192 as UInt64) + big(0 as UInt32)) }
    #expect(result == .failure(.chunkOutside(at: 8192, byteCount: 0)))
  }

  @Test("a kind of reply that the request or the agreement does not allow")
  func unexpected() {
    #expect(read { try $0.chunk($1, 5, of(0, 12)) } == .failure(.unexpectedReply(type: 5)))
    #expect(read { try $0.simple($1, of(1)) } == .failure(.unexpectedReply(type: 0)))
    let chunk = read(isStructured: false) { try $0.data($1, at: 8192, 4096, of: 1, isLast: true) }
    #expect(chunk == .failure(.unexpectedReply(type: 1)))
  }

  @Test("data for a request that reads none")
  func dataForFlush() {
    let failure = nbdFailure {
      try NBDTestServer.run([
        { (peer) in
          try peer.negotiate()
          try peer.data(try peer.request().handle, at: 0, 512, of: 1)
          _ = try? peer.receive(1)
        }
      ]) { try StoreProbe(try NBDStore($0)).perform(.flush) }
    }
    #expect(failure == .unexpectedReply(type: 1))
  }

  @Test("pieces of a reply are counted once each, in any order")
  func coverage() throws {
    var random = SeededGenerator(for: "NBD replies: coverage")
    for _ in 0..<200 {
      let cuts = Set((0..<20).map { _ in Int.random(in: 1..<200, using: &random) }).union([0, 200]).sorted()
      let pieces = zip(cuts, cuts.dropFirst()).map { $0..<$1 }.shuffled(using: &random)
      var coverage = NBDCoverage()
      var covered: Set<Int> = []
      for piece in pieces {
        try coverage.add(piece)
        covered.formUnion(piece)
        #expect(coverage.byteCount == covered.count)
        let start = Int.random(in: 0..<199, using: &random)
        let probe = start..<Int.random(in: start + 1...200, using: &random)
        var copy = coverage
        #expect(covered.isDisjoint(with: probe) == ((try? copy.add(probe)) != nil))
      }
      #expect(coverage.byteCount == 200)
    }
  }
}
