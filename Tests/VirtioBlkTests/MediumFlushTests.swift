import LinuxIO
import Synchronization
import Testing

@testable import VirtioBlk

@Suite("Flushing a medium") struct MediumFlushTests {
  private static let failure = LinuxError(call: "fdatasync", number: 5)

  /// A flush for several threads, and what came of each call.
  private final class Shared: Sendable {
    let flush = MediumFlush()
    let outcomes = Mutex<[StoreError?]>([])

    func perform(_ synchronize: () throws(LinuxError) -> Void) {
      var outcome: StoreError?
      do throws(StoreError) { try flush.perform(synchronize) } catch { outcome = error }
      outcomes.withLock { $0.append(outcome) }
    }

    var all: [StoreError?] { outcomes.withLock { $0 } }
  }

  @Test("each flush reaches the medium, until one fails: that failure stays, and the medium is not asked again")
  func stays() {
    let shared = Shared()
    var callCount = 0
    for _ in 0..<2 { shared.perform { callCount += 1 } }
    shared.perform { () throws(LinuxError) in throw Self.failure }
    shared.perform { callCount += 1 }
    shared.perform { () throws(LinuxError) in throw LinuxError(call: "fdatasync", number: 28) }
    #expect(callCount == 2)
    #expect(shared.all == [nil, nil] + [StoreError?](repeating: .system(Self.failure), count: 3))
  }

  @Test("who asks while a flush is failing is told of the failure too")
  func concurrent() throws {
    let shared = Shared()
    let (begun, arrived, gate) = (Signal(), Signal(), Signal())
    let first = try Thread(name: "first") {
      shared.perform { () throws(LinuxError) in
        begun.raise()
        gate.wait()
        throw Self.failure
      }
    }
    #expect(begun.wait())
    let second = try Thread(name: "second") {
      arrived.raise()
      // Whoever is let in beside the first would be told of success.
      shared.perform { gate.raise() }
    }
    #expect(arrived.wait())
    gate.raise()
    first.join()
    second.join()
    #expect(shared.all == [.system(Self.failure), .system(Self.failure)])
  }
}
