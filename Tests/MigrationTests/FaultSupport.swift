import GuestRAM
import Testing

@testable import Migration

/// What happens to one message of a move.
enum Fault: CaseIterable, Sendable {
  case firstByteFlipped, middleByteFlipped, lastByteFlipped, kindChanged, numberChanged
  case cutBefore, cutWithin, cutAfter, lost, repeated, replacedByNoise

  func steps(_ message: [UInt8]) -> [TestLink.Step] {
    switch self {
    case .firstByteFlipped: [.send(flipping(message, at: 0))]
    case .middleByteFlipped: [.send(flipping(message, at: message.count / 2))]
    case .lastByteFlipped: [.send(flipping(message, at: message.count - 1))]
    case .kindChanged: [.send(resealed(message) { $0[0] = $0[0] % UInt8(FrameKind.allCases.count) + 1 })]
    case .numberChanged: [.send(resealed(message) { $0[4] ^= 1 })]
    case .cutBefore: [.shutDown]
    case .cutWithin: [.send(Array(message.prefix(message.count / 2))), .shutDown]
    case .cutAfter: [.send(message), .shutDown]
    case .lost: []
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
