import LinuxIO

/// The talk with a server until an export is agreed on (fixed newstyle negotiation).
struct NBDNegotiation: ~Copyable {
  private static let mostReplies = 64
  private static let longestReply = UInt32(NBDWire.longestText + 64)

  let socket: StreamSocket
  /// When the whole talk must be over.
  private let moment: UInt64
  private var isStructured = false

  init(_ socket: consuming StreamSocket, until moment: UInt64) {
    self.socket = socket
    self.moment = moment
  }

  /// Asks for an export. The socket is ready for requests afterwards.
  mutating func agree(on name: String) throws(NBDError) -> NBDExport {
    let flags = try greet()
    guard flags & NBDWire.fixedNewstyle != 0 else { return try exportByName(name, flags) }
    isStructured = try askForStructuredReplies()
    if let export = try go(name) { return export }
    return try exportByName(name, flags)
  }

  /// - Returns: the server's flags.
  private func greet() throws(NBDError) -> UInt16 {
    let greeting = try receive(16)
    guard greeting.bigEndian(at: 0) == NBDWire.greeting else { throw .noServer }
    guard greeting.bigEndian(at: 8) != NBDWire.oldStyle else { throw .outdated }
    guard greeting.bigEndian(at: 8) == NBDWire.option else { throw .noServer }
    let flags = try receive(2).bigEndian(UInt16.self, at: 0)
    var answer: [UInt8] = []
    answer.append(bigEndian: UInt32(flags & (NBDWire.fixedNewstyle | NBDWire.noZeroes)))
    try send(answer)
    return flags
  }

  private func askForStructuredReplies() throws(NBDError) -> Bool {
    try sendOption(NBDWire.Option.structuredReply, [])
    let reply = try receiveReply(to: NBDWire.Option.structuredReply)
    if reply.isError {
      try reply.checkForEnd()
      return false
    }
    guard reply.type == NBDWire.OptionReply.acknowledgement, reply.bytes.isEmpty else { throw reply.illegal }
    return true
  }

  /// `NBD_OPT_GO`.
  /// - Returns: nil when the server does not know the option.
  private func go(_ name: String) throws(NBDError) -> NBDExport? {
    var question: [UInt8] = []
    question.append(bigEndian: UInt32(name.utf8.count))
    question += name.utf8
    question.append(bigEndian: UInt16(1))
    question.append(bigEndian: NBDWire.Info.blockSize)
    try sendOption(NBDWire.Option.go, question)
    var offer = Offer()
    for _ in 0..<Self.mostReplies {
      let reply = try receiveReply(to: NBDWire.Option.go)
      switch reply.type {
      case NBDWire.OptionReply.info: try offer.take(reply)
      case NBDWire.OptionReply.acknowledgement:
        guard let export = offer.export else { throw reply.illegal }
        return try NBDExport(
          byteCount: export.byteCount, flags: export.flags, sizes: offer.sizes, isStructured: isStructured)
      case NBDWire.OptionReply.unsupported: return nil
      default: throw reply.refusal
      }
    }
    throw .tooManyOptionReplies
  }

  /// `NBD_OPT_EXPORT_NAME`, which a server that refuses answers by closing the connection.
  private func exportByName(_ name: String, _ flags: UInt16) throws(NBDError) -> NBDExport {
    try sendOption(NBDWire.Option.exportName, Array(name.utf8))
    let answer = try receive(10)
    if flags & NBDWire.noZeroes == 0 { _ = try receive(124) }
    return try NBDExport(
      byteCount: answer.bigEndian(at: 0), flags: answer.bigEndian(at: 8), sizes: NBDExport.BlockSizes(),
      isStructured: isStructured)
  }

  private func sendOption(_ option: UInt32, _ content: [UInt8]) throws(NBDError) {
    var message: [UInt8] = []
    message.append(bigEndian: NBDWire.option)
    message.append(bigEndian: option)
    message.append(bigEndian: UInt32(content.count))
    try send(message + content)
  }

  private func receiveReply(to option: UInt32) throws(NBDError) -> OptionReply {
    let header = try receive(20)
    let type = header.bigEndian(UInt32.self, at: 12)
    let byteCount = header.bigEndian(UInt32.self, at: 16)
    guard header.bigEndian(at: 0) == NBDWire.optionReply, header.bigEndian(at: 8) == option,
      byteCount <= Self.longestReply
    else { throw .illegalOptionReply(type: type, byteCount: byteCount) }
    return OptionReply(type: type, bytes: try receive(Int(byteCount)))
  }

  private func send(_ bytes: [UInt8]) throws(NBDError) {
    do {
      try socket.send(bytes, within: MonotonicClock.timeLeft(until: moment))
    } catch {
      throw NBDError(error)
    }
  }

  private func receive(_ byteCount: Int) throws(NBDError) -> [UInt8] {
    try socket.receive(byteCount, until: moment)
  }
}

/// What was said of an export so far.
private struct Offer {
  var export: (byteCount: UInt64, flags: UInt16)?
  var sizes = NBDExport.BlockSizes()

  mutating func take(_ reply: OptionReply) throws(NBDError) {
    let bytes = reply.bytes
    guard bytes.count >= 2 else { throw reply.illegal }
    switch bytes.bigEndian(UInt16.self, at: 0) {
    case NBDWire.Info.export:
      guard bytes.count == 12 else { throw reply.illegal }
      export = (bytes.bigEndian(at: 2), bytes.bigEndian(at: 10))
    case NBDWire.Info.blockSize:
      guard bytes.count == 14 else { throw reply.illegal }
      sizes.minimum = bytes.bigEndian(at: 2)
      sizes.preferred = bytes.bigEndian(at: 6)
      sizes.maximum = bytes.bigEndian(at: 10)
    default: break
    }
  }
}

private struct OptionReply {
  let type: UInt32
  let bytes: [UInt8]

  var isError: Bool { type & NBDWire.OptionReply.errorBit != 0 }

  var illegal: NBDError { .illegalOptionReply(type: type, byteCount: UInt32(bytes.count)) }

  /// Why an export is not to be had.
  var refusal: NBDError {
    switch type {
    case NBDWire.OptionReply.encryptionRequired: .encrypted
    case NBDWire.OptionReply.stopping: .stopping
    default:
      isError
        ? .exportRefused(code: type & ~NBDWire.OptionReply.errorBit, message: bytes.text(0..<bytes.count)) : illegal
    }
  }

  /// Throws for an error that holds for whatever might be asked next.
  func checkForEnd() throws(NBDError) {
    switch refusal {
    case .encrypted: throw .encrypted
    case .stopping: throw .stopping
    default: return
    }
  }
}

extension StreamSocket {
  /// Receives exactly `byteCount` bytes, or throws.
  func receive(_ byteCount: Int, until moment: UInt64) throws(NBDError) -> [UInt8] {
    let bytes: [UInt8]?
    do {
      bytes = try receive(exactly: byteCount, within: MonotonicClock.timeLeft(until: moment))
    } catch {
      throw NBDError(error)
    }
    guard let bytes else { throw .closed }
    return bytes
  }
}
