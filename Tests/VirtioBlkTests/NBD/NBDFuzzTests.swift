import GuestRAM
import LinuxIO
import Support
import Testing

@testable import VirtioBlk

@Suite("NBD fuzz") struct NBDFuzzTests {
  private static let quick: NBDOptions = {
    var options = NBDOptions()
    options.requestLimit = .milliseconds(200)
    options.reconnectLimit = .zero
    return options
  }()

  /// Makes a few requests of a server that says what it wants; what comes of them is the server's business.
  private func provoke(_ script: @escaping NBDTestServer.Script) throws -> [NBDError] {
    var failures: [NBDError] = []
    try NBDTestServer.run([script]) { (address) in
      let failure = nbdFailure {
        let probe = try StoreProbe(try NBDStore(address, options: Self.quick), mostByteCount: 8192)
        for operation in [BlockOperation.flush, .discard(0..<4096)] {
          if let failure = nbdFailure({ try probe.perform(operation) }) { failures.append(failure) }
        }
        _ = try probe.read(8192, at: 4096)
      }
      if let failure { failures.append(failure) }
    }
    return failures
  }

  @Test("whatever bytes come, each request ends, by its reply or by an error with a name")
  func noise() throws {
    var random = SeededGenerator(for: "NBD fuzz: noise")
    for _ in 0..<60 {
      let seed = random.next()
      let failures = try provoke { (peer) in
        var random = SeededGenerator(seed: seed)
        if random.once(in: 2) { try peer.send(Array("NBDMAGICIHAVEOPT".utf8)) }
        for _ in 0..<8 { try peer.send((0..<64).map { _ in UInt8.random(in: 0...255, using: &random) }) }
      }
      #expect(!failures.isEmpty)
    }
  }

  @Test("a good negotiation with bytes flipped agrees on something that a disk can be, or on nothing")
  func flippedNegotiation() throws {
    var random = SeededGenerator(for: "NBD fuzz: negotiation")
    let good = Self.negotiation
    for _ in 0..<150 {
      var bytes = good
      for _ in 0..<Int.random(in: 1...3, using: &random) {
        bytes[Int.random(in: 0..<bytes.count, using: &random)] = UInt8.random(in: 0...255, using: &random)
      }
      let sent = bytes
      try NBDTestServer.run([{ (peer) in try peer.send(sent) }]) { (address) in
        let failure = nbdFailure {
          let export = try NBDConnection(to: address, within: .milliseconds(200)).export
          #expect(export.byteCount % UInt64(export.blockByteCount) == 0)
          #expect(export.maximumByteCount % export.blockByteCount == 0 && export.maximumByteCount > 0)
          #expect((512...65536).contains(export.blockByteCount))
        }
        if let failure { #expect(!failure.description.isEmpty) }
      }
    }
  }

  @Test("replies with fields chosen at random end each request, by success or by an error with a name")
  func replies() throws {
    var random = SeededGenerator(for: "NBD fuzz: replies")
    for _ in 0..<150 {
      let seed = random.next()
      let failures = try provoke { (peer) in
        var random = SeededGenerator(seed: seed)
        try peer.negotiate(isStructured: !random.once(in: 4))
        while true {
          let request = try peer.request()
          for _ in 0..<Int.random(in: 1...4, using: &random) { try Self.reply(to: request, on: peer, &random) }
        }
      }
      for failure in failures { #expect(!failure.description.contains("unknown")) }
    }
  }

  /// A server's side of a good negotiation, which does not depend on what the client says.
  private static let negotiation: [UInt8] = {
    func answer(_ option: UInt32, _ type: UInt32, _ bytes: [UInt8]) -> [UInt8] {
      big(0x3_e889_0455_65a9 as UInt64) + big(option) + big(type) + big(UInt32(bytes.count)) + bytes
    }
    return Array("NBDMAGICIHAVEOPT".utf8) + big(3 as UInt16) + answer(8, 1, [])
      + answer(7, 3, big(0 as UInt16) + big(1 << 20 as UInt64) + big(0x25 as UInt16))
      + answer(7, 3, big(3 as UInt16) + big(512 as UInt32) + big(4096 as UInt32) + big(1 << 20 as UInt32))
      + answer(7, 1, [])
  }()

  /// Something that is a reply in most of its parts.
  private static func reply(
    to request: NBDSeenRequest, on peer: borrowing NBDTestPeer, _ random: inout SeededGenerator
  ) throws {
    let handle = random.once(in: 10) ? random.next() : request.handle
    let isLast = random.once(in: 2)
    let length = Int.random(in: 0...Int(request.byteCount) + 1, using: &random)
    let offset = request.offset &+ UInt64.random(in: 0...4096, using: &random) &- (random.once(in: 4) ? 4096 : 0)
    switch Int.random(in: 0..<6, using: &random) {
    case 0: try peer.simple(handle, error: random.once(in: 2) ? 0 : 5)
    case 1: try peer.data(handle, at: offset, length, of: 1, isLast: isLast)
    case 2: try peer.chunk(handle, 2, isLast: isLast, big(offset) + big(UInt32(length)))
    case 3: try peer.chunk(handle, UInt16.random(in: 0...9, using: &random), isLast: isLast)
    case 4: try peer.chunk(handle, 0x8001, isLast: isLast, big(5 as UInt32) + big(UInt16(length % 9)) + [1, 2, 3])
    default: try peer.data(handle, at: request.offset, Int(request.byteCount), of: 1, isLast: true)
    }
  }
}
