import GuestRAM
import LinuxIO
import Testing

@testable import Migration

/// What happens to one message of a move.
enum Fault: CaseIterable, Sendable {
  case firstByteFlipped, middleByteFlipped, lastByteFlipped, kindChanged, numberChanged
  case cutBefore, cutWithin, cutAfter, lost, repeated, replacedByNoise
  /// Half of it comes, and then nothing more.
  case stalledWithin
  /// Its frame comes, whole, after the next one.
  case swapped

  /// Does it to one message of a connection.
  func tamper(at index: Int) -> TestLink.Tamper {
    guard self == .swapped else { return { $0 == index ? steps($1) : nil } }
    let swap = Monitor(FrameSwap(at: index))
    return { (index, message) in swap.withLock { $0.steps(index, message) } }
  }

  /// The messages that it is tried on, of so many: some of them where both sides wait each time until they give up.
  func places(among count: Int) -> [Int] {
    let takesLong = [.stalledWithin, .swapped].contains(self)
    return (0..<count).filter { !takesLong || $0 < 6 || $0 >= count - 4 || $0 % 5 == 0 }
  }

  private func steps(_ message: [UInt8]) -> [TestLink.Step] {
    switch self {
    case .firstByteFlipped: [.send(flipping(message, at: 0))]
    case .middleByteFlipped: [.send(flipping(message, at: message.count / 2))]
    case .lastByteFlipped: [.send(flipping(message, at: message.count - 1))]
    case .kindChanged: [.send(resealed(message) { $0[0] = $0[0] % UInt8(FrameKind.allCases.count) + 1 })]
    case .numberChanged: [.send(resealed(message) { $0[4] ^= 1 })]
    case .cutBefore: [.shutDown]
    case .cutWithin: [.send(Array(message.prefix(message.count / 2))), .shutDown]
    case .cutAfter: [.send(message), .shutDown]
    // One that is held back for another waits here for ever.
    case .lost, .swapped: []
    case .stalledWithin: [.send(Array(message.prefix(message.count / 2))), .fallSilent]
    case .repeated: [.send(message), .send(message)]
    case .replacedByNoise: [.send(message.map { $0 &* 31 &+ 7 })]
    }
  }

  private func flipping(_ message: [UInt8], at index: Int) -> [UInt8] {
    var message = message
    message[index] ^= 0x20
    return message
  }

  /// A changed header whose digest is right all the same: what only an enemy sends.
  private func resealed(_ message: [UInt8], _ change: (inout [UInt8]) -> Void) -> [UInt8] {
    guard message.count >= Frame.headerByteCount else { return flipping(message, at: 0) }
    var header = Array(message.prefix(24))
    change(&header)
    var writer = WireWriter()
    writer.append(GuestMemory.digest(of: header))
    return header + writer.bytes + message.dropFirst(Frame.headerByteCount)
  }
}

/// Exchanges the frame that begins with a message, with its page data, and the next frame.
private struct FrameSwap {
  private let index: Int
  private var isData = false
  private var held: [UInt8] = []
  private var next: [UInt8] = []
  private var isOver = false

  init(at index: Int) {
    self.index = index
  }

  mutating func steps(_ index: Int, _ message: [UInt8]) -> [TestLink.Step]? {
    let (isRest, isFirst) = (isData, index == self.index)
    isData = !isRest && index > 0 && Self.announcesData(message)
    guard index >= self.index, !isOver else { return nil }
    if isFirst || (isRest && next.isEmpty) {
      held += message
      return []
    }
    next += message
    isOver = !isData
    return isOver ? [.send(next + held)] : []
  }

  /// Whether page data follows a frame.
  private static func announcesData(_ message: [UInt8]) -> Bool {
    message.count >= Frame.headerByteCount && message[12..<16].contains { $0 != 0 }
  }
}

extension Move {
  /// At most one side runs, both fail by name, and only what befalls the last words passes unnoticed.
  func checkOneRuns(isLastWord: Bool, _ what: String) {
    switch (source, destination) {
    case (.success, .success): #expect(isLastWord, "\(what): unnoticed")
    case (.success, .failure(let error)): Issue.record("\(what): nobody runs (\(error))")
    case (.failure(let error), .success):
      #expect(!error.sourceMayRun, "\(what): both run (\(error))")
      #expect(isLastWord, "\(what): \(error)")
    case (.failure(let error), .failure(let other)):
      for error in [error, other] {
        if case .system = error { Issue.record("\(what): unnamed (\(error))") }
        if case .memory = error { Issue.record("\(what): blamed on memory (\(error))") }
      }
    }
  }
}
