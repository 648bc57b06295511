import LinuxIO
import Testing

@testable import VirtioBlk

@Suite("NBD negotiation") struct NBDNegotiationTests {
  private func export(
    _ limit: Duration = .seconds(20), name: String = "", _ script: @escaping NBDTestServer.Script
  ) throws -> NBDExport {
    var export: NBDExport?
    try NBDTestServer.run([script]) { (address) in
      export = try NBDConnection(to: try NBDAddress(address.place, exportName: name), within: limit).export
    }
    return try #require(export)
  }

  private func failure(_ limit: Duration = .seconds(20), _ script: @escaping NBDTestServer.Script) -> NBDError? {
    nbdFailure { _ = try export(limit, script) }
  }

  @Test("NBD_OPT_GO agrees on size, flags, blocks and chunks")
  func go() throws {
    let export = try export { try $0.negotiate(byteCount: 8192, flags: 0x25, sizes: [4096, 8192, 1 << 20]) }
    #expect(export.byteCount == 8192)
    #expect(export.flags.rawValue == 0x25)
    #expect(export.isStructured)
    #expect(export.blockByteCount == 4096)
    #expect(export.preferredByteCount == 8192)
    #expect(export.maximumByteCount == 1 << 20)
  }

  @Test("a server that knows neither option is asked by NBD_OPT_EXPORT_NAME", arguments: [UInt16(1), 3, 0, 2])
  func exportName(flags: UInt16) throws {
    let export = try export(name: "disk") { (peer) in
      try peer.greet(flags: flags)
      if flags & 1 != 0 {
        for code: UInt32 in [8, 7] {
          guard try peer.option().0 == code else { return }
          try peer.answer(code, 0x8000_0001, Array("what?".utf8))
        }
      }
      guard try peer.option() == (1, Array("disk".utf8)) else { return }
      try peer.send(big(4096 as UInt64), big(3 as UInt16))
      if flags & 2 == 0 { try peer.send([UInt8](repeating: 0, count: 124)) }
    }
    #expect(export.byteCount == 4096)
    #expect(export.flags.contains(.readOnly))
    #expect(!export.isStructured)
    #expect(export.maximumByteCount == 32 << 20)
  }

  @Test("whatever else answers is no server, or an outdated one")
  func greetings() {
    #expect(failure { try $0.send(Array("SSH-2.0-OpenSSH_9.2p1\r\n".utf8)) } == .noServer)
    #expect(failure { try $0.send(Array("NBDMAGIC????????".utf8)) } == .noServer)
    #expect(failure { try $0.send(Array("NBDMAGIC".utf8), big(0x420281861253 as UInt64)) } == .outdated)
    #expect(failure { try $0.send(Array("NBDMA".utf8)) } == .closed)
    #expect(failure { _ in } == .closed)
  }

  @Test("a server that says nothing, or too slowly, is not waited for")
  func silence() {
    #expect(failure(.milliseconds(20)) { _ = try $0.receive(1) } == .timedOut)
  }

  @Test(
    "a refusal is told with the server's words",
    arguments: [
      (0x8000_0006 as UInt32, NBDError.exportRefused(code: 6, message: "no such disk")), (0x8000_0005, .encrypted),
      (0x8000_0007, .stopping), (0x8000_0009, .exportRefused(code: 9, message: "no such disk")),
    ])
  func refusals(type: UInt32, error: NBDError) {
    let failure = failure { (peer) in
      try peer.greet()
      _ = try peer.option()
      try peer.answer(8, 1)
      _ = try peer.option()
      try peer.answer(7, type, Array("no such\u{1b} disk\n".utf8))
    }
    #expect(failure == error)
  }

  @Test(
    "a size that no disk has is refused",
    arguments: [(513, 1), (1, 1), (512 * 3, 1024), (UInt64.max - 511, 1)] as [(UInt64, UInt32)])
  func sizes(byteCount: UInt64, block: UInt32) {
    let failure = failure { try $0.negotiate(byteCount: byteCount, sizes: [block, 4096, 1 << 20]) }
    #expect(failure == .illegalSize(byteCount))
  }

  @Test(
    "blocks that contradict the protocol are refused",
    arguments: [
      [0, 4096, 1 << 20], [3, 4096, 1 << 20], [131072, 131072, 1 << 20], [512, 0, 1 << 20], [512, 4097, 1 << 20],
      [4096, 512, 1 << 20], [4096, 4096, 512], [1, 4096, 511],
    ] as [[UInt32]])
  func blocks(sizes: [UInt32]) {
    let failure = failure { try $0.negotiate(sizes: sizes) }
    #expect(failure == .illegalBlockSizes(minimum: sizes[0], preferred: sizes[1], maximum: sizes[2]))
  }

  @Test("the longest request is whole blocks, and never longer than anybody needs")
  func maximum() throws {
    #expect(try export { try $0.negotiate(sizes: [4096, 4096, 10000]) }.maximumByteCount == 8192)
    #expect(try export { try $0.negotiate(sizes: [1, 512, .max]) }.maximumByteCount == 32 << 20)
  }

  @Test("an answer to an option that the protocol does not have is refused")
  func illegalReplies() {
    func answering(_ type: UInt32, _ bytes: [UInt8]) -> NBDError? {
      failure { (peer) in
        try peer.greet()
        _ = try peer.option()
        try peer.answer(8, 1)
        _ = try peer.option()
        try peer.answer(7, type, bytes)
      }
    }
    #expect(answering(1, []) == .illegalOptionReply(type: 1, byteCount: 0), "no size was told")
    #expect(answering(3, [0]) == .illegalOptionReply(type: 3, byteCount: 1))
    #expect(answering(3, [0, 0, 1]) == .illegalOptionReply(type: 3, byteCount: 3))
    #expect(answering(3, [0, 3, 1]) == .illegalOptionReply(type: 3, byteCount: 3))
    #expect(answering(2, []) == .illegalOptionReply(type: 2, byteCount: 0))
  }

  @Test("a text that is too long is not even received")
  func longText() {
    let failure = failure { (peer) in
      try peer.greet()
      _ = try peer.option()
      try peer.send(big(0x3_e889_0455_65a9 as UInt64), big(8 as UInt32), big(0x8000_0001 as UInt32), big(UInt32.max))
      _ = try? peer.receive(1)
    }
    #expect(failure == .illegalOptionReply(type: 0x8000_0001, byteCount: .max))
  }

  @Test("answers without end are cut off, and one to another option is refused")
  func strayReplies() {
    let endless = failure { (peer) in
      try peer.greet()
      _ = try peer.option()
      try peer.answer(8, 1)
      _ = try peer.option()
      while true { try peer.answer(7, 3, big(2 as UInt16) + Array("a description".utf8)) }
    }
    #expect(endless == .tooManyOptionReplies)
    let stray = failure { (peer) in
      try peer.greet()
      _ = try peer.option()
      try peer.answer(7, 1)
    }
    #expect(stray == .illegalOptionReply(type: 1, byteCount: 0))
  }
}
