import GuestRAM
import LinuxIO
import Testing

@testable import VirtioBlk

@Suite("NBD store") struct NBDStoreTests {
  /// Runs a body on the disk of a server that keeps what requests it saw.
  private func withStore(
    flags: UInt16 = 0b0110_1101, sizes: [UInt32]? = nil, _ body: (NBDStore, StoreProbe) throws -> Void
  ) throws -> [NBDSeenRequest] {
    let seen = Monitor<[NBDSeenRequest]>([])
    let script: NBDTestServer.Script = { (peer) in
      try peer.negotiate(byteCount: 1 << 30, flags: flags, sizes: sizes)
      while true {
        let request = try peer.request()
        seen.withLock { $0.append(request) }
        if request.command == 2 { return }
        if request.command == 0 {
          try peer.data(request.handle, at: request.offset, Int(request.byteCount), of: 9, isLast: true)
        } else {
          try peer.simple(request.handle)
        }
      }
    }
    try NBDTestServer.run([script]) { (address) in
      let store = try NBDStore(address)
      try body(store, try StoreProbe(store))
    }
    return seen.withLock { $0 }
  }

  /// Command, offset and length of each request, but the farewell.
  private func shape(_ requests: [NBDSeenRequest]) -> [[UInt64]] {
    requests.filter { $0.command != 2 }.map { [UInt64($0.command), $0.offset, UInt64($0.byteCount)] }
  }

  @Test("each operation is the request that the protocol has for it, and the last is a farewell")
  func operations() throws {
    let seen = try withStore { (_, probe) in
      #expect(try probe.read(512, at: 1024) == [UInt8](repeating: 9, count: 512))
      try probe.write([UInt8](repeating: 4, count: 1024), at: 4096)
      try probe.perform(.flush)
      try probe.perform(.discard(8192..<16384))
      try probe.perform(.writeZeroes(0..<4096, mayUnmap: true))
      try probe.perform(.writeZeroes(0..<4096, mayUnmap: false))
    }
    let expected: [[UInt64]] = [
      [0, 1024, 512], [1, 4096, 1024], [3, 0, 0], [4, 8192, 8192], [6, 0, 4096], [6, 0, 4096],
    ]
    #expect(shape(seen) == expected)
    #expect(seen.map(\.flags) == [0, 0, 0, 0, 0, 2, 0], "only the last keeps its space: NBD_CMD_FLAG_NO_HOLE")
    #expect(seen[1].payload == [UInt8](repeating: 4, count: 1024))
    #expect(seen.last?.command == 2)
  }

  @Test("requests beyond the server's longest are split")
  func split() throws {
    let seen = try withStore(sizes: [1, 4096, 10000]) { (_, probe) in
      #expect(try probe.read(20480, at: 512) == [UInt8](repeating: 9, count: 20480))
      try probe.write([UInt8](repeating: 1, count: 10240), at: 0)
    }
    #expect(shape(seen) == [[0, 512, 9728], [0, 10240, 9728], [0, 19968, 1024], [1, 0, 9728], [1, 9728, 512]])
  }

  @Test("a range is trimmed in pieces that a server has done in time")
  func longTrim() throws {
    let seen = try withStore { (_, probe) in try probe.perform(.discard(0..<(1 << 30) - 512)) }
    #expect(shape(seen) == (0..<4).map { [4, $0 << 28, $0 < 3 ? 1 << 28 : (1 << 28) - 512] })
  }

  @Test("without NBD_FLAG_SEND_WRITE_ZEROES zeros are written, without NBD_FLAG_SEND_TRIM nothing is trimmed")
  func plain() throws {
    let seen = try withStore(flags: 0b101, sizes: [1, 4096, 1 << 20]) { (store, probe) in
      #expect(!store.limits.canDiscard)
      try probe.perform(.writeZeroes(512..<(1 << 20) + 1024, mayUnmap: true))
      try probe.perform(.discard(0..<4096))
    }
    #expect(shape(seen) == [[1, 512, 1 << 20], [1, 512 + 1 << 20, 512]])
    #expect(seen[1].payload == [UInt8](repeating: 0, count: 512))
  }

  @Test("a server that cannot flush but write through is told to, and one that can neither is left alone")
  func writeThrough() throws {
    for (flags, expected) in [(0b1001, [UInt16(1)]), (0b0001, [0]), (0b1101, [0, 0])] as [(UInt16, [UInt16])] {
      let seen = try withStore(flags: flags) { (_, probe) in
        try probe.write([UInt8](repeating: 4, count: 512), at: 0)
        try probe.perform(.flush)
      }
      #expect(seen.filter { $0.command != 2 }.map(\.flags) == expected)
    }
  }

  @Test("an export that can only be read refuses all else, and nothing of it is sent")
  func readOnly() throws {
    let seen = try withStore(flags: 0b0110_1111) { (store, probe) in
      #expect(store.isReadOnly)
      #expect(throws: StoreError.readOnly) { try probe.write([UInt8](repeating: 4, count: 512), at: 0) }
      #expect(throws: StoreError.readOnly) { try probe.perform(.discard(0..<512)) }
      #expect(throws: StoreError.readOnly) { try probe.perform(.writeZeroes(0..<512, mayUnmap: true)) }
      try probe.perform(.flush)
    }
    #expect(shape(seen) == [[3, 0, 0]])
  }

  @Test("what does not fit the server's smallest block is refused by name; the driver is told the block")
  func unaligned() throws {
    let seen = try withStore(sizes: [4096, 8192, 1 << 20]) { (store, probe) in
      #expect(store.limits.blockByteCount == 4096)
      #expect(store.limits.physicalBlockByteCount == 8192)
      let unaligned = StoreError.nbd(.unaligned(at: 512, byteCount: 4096, block: 4096))
      #expect(throws: unaligned) { try probe.read(4096, at: 512) }
      #expect(throws: StoreError.nbd(.unaligned(at: 0, byteCount: 512, block: 4096))) {
        try probe.write([UInt8](repeating: 4, count: 512), at: 0)
      }
    }
    #expect(shape(seen) == [])
  }

  @Test("what lies beyond the end is refused before it is sent")
  func beyondEnd() throws {
    let seen = try withStore { (_, probe) in
      #expect(throws: StoreError.beyondEnd(at: 1 << 30, byteCount: 512)) { try probe.read(512, at: 1 << 30) }
      #expect(throws: StoreError.beyondEnd(at: .max - 511, byteCount: 512)) { try probe.read(512, at: .max - 511) }
    }
    #expect(shape(seen) == [])
  }

  @Test("memory that is none fails its request, and the connection lives on")
  func badMemory() throws {
    let seen = try withStore { (store, probe) in
      for operation in [BlockOperation.read(at: 0), .write(at: 0)] {
        var data = BlockData()
        data.load([GuestBuffer(address: GuestAddress(1 << 40), byteCount: 512)], byteCount: 512, of: probe.memory)
        #expect(throws: StoreError.self) { _ = try store.perform(operation, &data, mayWait: true) }
      }
      try probe.perform(.flush)
    }
    #expect(shape(seen) == [[3, 0, 0]])
  }

  @Test("whoever cannot wait is always turned away")
  func mayNotWait() throws {
    let seen = try withStore { (store, probe) in
      var data = BlockData.at(probe.memory, byteCount: 512)
      let isDone = [
        try store.perform(.read(at: 0), &data, mayWait: false), try store.perform(.flush, &data, mayWait: false),
      ]
      #expect(isDone == [false, false])
    }
    #expect(shape(seen) == [])
  }

  @Test("requests of many threads are in flight together; their replies come in any order, chunk by chunk")
  func interleaved() throws {
    let count = 8
    let script: NBDTestServer.Script = { (peer) in
      try peer.negotiate()
      for _ in 0..<20 {
        // Nobody is answered before all have asked.
        var requests: [NBDSeenRequest] = []
        for _ in 0..<count { requests.append(try peer.request()) }
        requests.reverse()
        for half in 0..<2 {
          for request in requests {
            try peer.data(
              request.handle, at: request.offset + UInt64(2048 * half), 2048, of: UInt8(request.offset / 4096),
              isLast: half == 1)
          }
        }
      }
    }
    try NBDTestServer.run([script]) { (address) in
      let store = try NBDStore(address)
      let right = Monitor(0)
      try withThreads(count) { (index) in
        guard let probe = try? StoreProbe(store, mostByteCount: 4096) else { return }
        for _ in 0..<20 {
          let bytes = try? probe.read(4096, at: UInt64(index) * 4096)
          if bytes == [UInt8](repeating: UInt8(index), count: 4096) { right.withLock { $0 += 1 } }
        }
      }
      #expect(right.withLock { $0 } == 20 * count)
    }
  }

  @Test("a server that allows it is served over several connections")
  func severalConnections() throws {
    let disk = Monitor([UInt8](repeating: 0, count: 1 << 20))
    let script: NBDTestServer.Script = { (peer) in
      try peer.negotiate(flags: 0b1_0110_1101)
      // Each gets half of the requests, or never finishes.
      try peer.serve(disk, atMost: 4)
      _ = try? peer.receive(1)
    }
    try NBDTestServer.run([
      { (peer) in
        try peer.negotiate(flags: 0b1_0110_1101)
        let first = try peer.request()
        disk.withLock { $0[0] = 1 }
        try peer.chunk(first.handle, 1, isLast: true, big(first.offset) + [UInt8](repeating: 1, count: 512))
      }, script,
    ]) { (address) in
      var options = NBDOptions()
      options.connectionCount = 2
      let probe = try StoreProbe(try NBDStore(address, options: options))
      let answers = try (0..<2).map { _ in try probe.read(512, at: 0)[1] }
      #expect(answers.sorted() == [0, 1], "one came over each connection")
    }
  }
}

/// Runs a body on so many threads and waits for all.
func withThreads(_ count: Int, _ body: @escaping @Sendable (Int) -> Void) throws {
  guard count > 0 else { return }
  let last = count - 1
  let thread = try Thread(name: "test") { body(last) }
  try withThreads(last, body)
  thread.join()
}
