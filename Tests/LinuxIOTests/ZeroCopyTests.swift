import Glibc
import LinuxIO
import Testing

@Suite("Sending without a copy") struct ZeroCopyTests {
  private static let patience = Duration.seconds(20)
  private static let moment = Duration.milliseconds(20)
  private static let byteCount = 256 << 10

  enum Kind: CaseIterable { case tcp, local }

  /// A connection whose first end sends in place.
  private func connect(_ kind: Kind = .tcp) throws -> (sender: ByteStream, receiver: ByteStream) {
    if kind == .local {
      let pair = try Socket.pair(.stream)
      pair.first.buffer(1 << 20)
      let sender = try ByteStream(Socket(owning: pair.first.descriptor.duplicate()))
      try sender.startZeroCopy()
      return (sender, try ByteStream(Socket(owning: pair.second.descriptor.duplicate())))
    }
    let loopback = try SocketAddress.internet(host: "127.0.0.1", port: 0)[0]
    var listener = try Socket(.stream, for: loopback)
    try listener.bind(to: loopback)
    try listener.listen()
    let address = try listener.localAddress
    let socket = try Socket(.stream, for: address)
    try socket.connect(to: address, within: Self.patience)
    let sender = try ByteStream(socket)
    try sender.startZeroCopy()
    return (sender, try ByteStream(listener.accept(within: Self.patience)))
  }

  /// Memory of this byte, lent for calls that send it.
  private func withMemory(
    _ byte: UInt8, _ byteCount: Int = Self.byteCount, _ body: (borrowing IOVectors) throws(LinuxError) -> Void
  ) throws(LinuxError) {
    let mapping = try Mapping(anonymous: byteCount)
    var vectors = IOVectors(capacity: 1)
    unsafe memset(mapping.base, Int32(byte), byteCount)
    _ = unsafe vectors.append(mapping.base, byteCount: byteCount)
    try body(vectors)
    withExtendedLifetime(mapping) {}
  }

  private func total(_ report: ZeroCopyReport) -> UInt64 {
    report.uncopiedByteCount + report.copiedByteCount + report.refusedByteCount
  }

  @Test("only sockets can: a pipe is refused, and takes bytes all the same")
  func refused() throws {
    let pipe = try FileDescriptor.pipe()
    let writing = try ByteStream(input: nil, output: pipe.writing)
    let reading = try ByteStream(input: pipe.reading, output: nil)
    let unsupported = LinuxError(call: "setsockopt(SO_ZEROCOPY)", number: EOPNOTSUPP)
    #expect(throws: unsupported) { try writing.startZeroCopy() }
    try withMemory(7, 2) { (vectors) throws(LinuxError) in try writing.sendInPlace(vectors, within: Self.patience) }
    try writing.awaitZeroCopies(within: Self.patience)
    #expect(try reading.receive(exactly: 2, within: Self.patience) == [7, 7])
    #expect(writing.zeroCopies == ZeroCopyReport())
  }

  @Test("a unix socket has its peer read the memory itself, which shows what is written before it does")
  func local() throws {
    let (sender, receiver) = try connect(.local)
    let mapping = try Mapping(anonymous: 4096)
    var vectors = IOVectors(capacity: 1)
    _ = unsafe vectors.append(mapping.base, byteCount: 4096)
    unsafe memset(mapping.base, 1, 4096)
    try sender.sendInPlace(vectors, within: Self.patience)
    unsafe memset(mapping.base, 2, 4096)
    #expect(try receiver.receive(exactly: 4096, within: Self.patience)?.allSatisfy { $0 == 2 } == true)
    try sender.awaitZeroCopies(within: Self.patience)
    #expect(sender.zeroCopies.uncopiedByteCount == 4096)
  }

  @Test("a unix socket takes more than it holds, in order, as its peer reads it, and waits for nobody without end")
  func manyPieces() throws {
    let (sender, receiver) = try connect(.local)
    let mapping = try Mapping(anonymous: 8 << 20)
    for page in 0..<2048 { unsafe memset(mapping.base + page * 4096, Int32(page % 251), 4096) }
    var vectors = IOVectors(capacity: 600)
    // No piece begins where a page does.
    for piece in 0..<600 { _ = unsafe vectors.append(mapping.base + 100 + piece * 13_000, byteCount: 12_345) }
    let error = #expect(throws: LinuxError.self) { try sender.sendInPlace(vectors, within: Self.moment) }
    #expect(error?.isTimeOut == true)
    let (second, other) = try connect(.local)
    let received = try Handover<[UInt8]?>()
    let byteCount = vectors.totalByteCount
    let thread = try Thread(name: "peer") {
      received.put(try? other.receive(exactly: byteCount, within: Self.patience))
    }
    try second.sendInPlace(vectors, within: Self.patience)
    thread.join()
    var expected: [UInt8] = []
    for piece in 0..<600 {
      for offset in 0..<12_345 { expected.append(UInt8((100 + piece * 13_000 + offset) / 4096 % 251)) }
    }
    #expect(received.wait() == expected)
    withExtendedLifetime((mapping, receiver)) {}
  }

  @Test("memory is the kernel's until the peer has it, and every byte is accounted for", arguments: Kind.allCases)
  func waits(kind: Kind) throws {
    let (sender, receiver) = try connect(kind)
    try withMemory(0xA5) { (vectors) throws(LinuxError) in
      try sender.sendInPlace(vectors, within: Self.patience)
      let error = #expect(throws: LinuxError.self) { try sender.awaitZeroCopies(within: Self.moment) }
      #expect(error?.isTimeOut == true)
      let bytes = try receiver.receive(exactly: Self.byteCount, within: Self.patience)
      #expect(bytes?.allSatisfy { $0 == 0xA5 } == true)
      try sender.awaitZeroCopies(within: Self.patience)
    }
    #expect(total(sender.zeroCopies) == UInt64(Self.byteCount))
    try sender.awaitZeroCopies(within: .zero)
  }

  @Test("what the kernel tells of such memory wakes nobody who waits for the peer")
  func wakesNobody() throws {
    let (sender, receiver) = try connect()
    try withMemory(1) { (vectors) throws(LinuxError) in
      for _ in 0..<4 {
        try sender.sendInPlace(vectors, within: Self.patience)
        _ = try receiver.receive(exactly: Self.byteCount, within: Self.patience)
        #expect(try !sender.waitUntilReadable(within: Self.moment))
      }
      try receiver.send([7], within: Self.patience)
      #expect(try sender.waitUntilReadable(within: Self.patience))
      #expect(try sender.receive(exactly: 1, within: Self.patience) == [7])
      try sender.awaitZeroCopies(within: Self.patience)
    }
    #expect(total(sender.zeroCopies) == 4 * UInt64(Self.byteCount))
  }

  @Test("a peer that goes in the middle leaves nobody waiting", arguments: Kind.allCases)
  func peerGone(kind: Kind) throws {
    var (sender, receiver) = try connect(kind) as (ByteStream, ByteStream?)
    try withMemory(1) { (vectors) throws(LinuxError) in
      try sender.sendInPlace(vectors, within: Self.patience)
      _ = try receiver?.receive(exactly: 1000, within: Self.patience)
      receiver = nil
      do throws(LinuxError) {
        try sender.awaitZeroCopies(within: Self.patience)
      } catch {
        #expect(error.isPeerGone)
      }
    }
    _ = sender
  }

  @Test("a peer that is gone before is an error, and no signal that ends the process", arguments: Kind.allCases)
  func goneBefore(kind: Kind) throws {
    var (sender, receiver) = try connect(kind) as (ByteStream, ByteStream?)
    receiver?.shutDown()
    receiver = nil
    try withMemory(1) { (vectors) throws(LinuxError) in
      let error = #expect(throws: LinuxError.self) {
        for _ in 0..<100 { try sender.sendInPlace(vectors, within: Self.patience) }
      }
      #expect(error?.isPeerGone == true)
    }
    _ = sender
  }

  @Test("where the kernel may hold no more pages they are copied", .enabled(if: geteuid() == 0))
  func noRoom() throws {
    let (sender, receiver) = try connect()
    let outcome = try Handover<Result<ZeroCopyReport, LinuxError>>()
    let thread = try Thread(name: "poor") {
      outcome.put(
        Result { () throws(LinuxError) in
          try Poverty.enter()
          try withMemory(3) { (vectors) throws(LinuxError) in
            try sender.sendInPlace(vectors, within: Self.patience)
            let bytes = try receiver.receive(exactly: Self.byteCount, within: Self.patience)
            #expect(bytes?.allSatisfy { $0 == 3 } == true)
            try sender.awaitZeroCopies(within: Self.patience)
          }
          return sender.zeroCopies
        })
    }
    thread.join()
    try Poverty.leave()
    let report = try outcome.wait().get()
    #expect(report.refusedByteCount == UInt64(Self.byteCount) && total(report) == UInt64(Self.byteCount))
  }
}

/// A thread that may have no page pinned. The limit is the whole process's, but only this thread heeds it.
private enum Poverty {
  private struct Header {
    var version: UInt32 = 0x2008_0522
    var thread: Int32 = 0
  }

  private struct Sets {
    var effective: UInt32 = 0
    var permitted: UInt32 = 0
    var inheritable: UInt32 = 0
    var effectiveHigh: UInt32 = 0
    var permittedHigh: UInt32 = 0
    var inheritableHigh: UInt32 = 0
  }

  private typealias Call = @convention(c) (UnsafeMutableRawPointer, UnsafeMutableRawPointer) -> Int32

  /// glibc has the function and no header for it.
  static func enter() throws(LinuxError) {
    var (header, sets) = (Header(), Sets())
    guard let capset = unsafe dlsym(nil, "capset") else { throw LinuxError(call: "dlsym", number: ENOENT) }
    let call = unsafe unsafeBitCast(capset, to: Call.self)
    guard unsafe call(&header, &sets) == 0 else { throw LinuxError(call: "capset", number: errno) }
    try set(0)
  }

  static func leave() throws(LinuxError) { try set(.max) }

  private static func set(_ soft: UInt) throws(LinuxError) {
    var limit = rlimit()
    let resource = Int32(__RLIMIT_MEMLOCK.rawValue)
    guard unsafe getrlimit(resource, &limit) == 0 else { throw LinuxError(call: "getrlimit", number: errno) }
    limit.rlim_cur = min(soft, limit.rlim_max)
    guard unsafe setrlimit(resource, &limit) == 0 else { throw LinuxError(call: "setrlimit", number: errno) }
  }
}
