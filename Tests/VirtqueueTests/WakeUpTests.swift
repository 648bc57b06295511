import Dispatch
import GuestRAM
import LinuxIO
import Support
import Synchronization
import Testing
import Virtqueue

/// A wake-up as an eventfd is one: any number of signals before a wait end that wait, and none is kept beyond it.
final class WakeUp: Sendable {
  private let semaphore = DispatchSemaphore(value: 0)

  func signal() {
    semaphore.signal()
  }

  /// Waits for a signal; false when none comes in the longest time that a loaded machine may take.
  func wait() -> Bool {
    guard semaphore.wait(timeout: .now() + 20) == .success else { return false }
    while semaphore.wait(timeout: .now()) == .success {}
    return true
  }
}

/// A driver and a device on two threads that sleep whenever they can, so that a wake-up lost once stops them.
@Suite("Virtqueue: two threads", .serialized)
struct WakeUpTests {
  static let chainCount: UInt64 = 3_000

  /// What the threads have in common.
  final class Shared: Sendable {
    let kick = WakeUp()
    let call = WakeUp()
    let failure = Mutex<String?>(nil)
    let kickCount = Atomic<Int>(0)
    let callCount = Atomic<Int>(0)

    func fail(_ what: String) {
      failure.withLock { $0 = $0 ?? what }
      kick.signal()
      call.signal()
    }

    var hasFailed: Bool { failure.withLock { $0 != nil } }
  }

  @Test(
    "2.7.7, 2.7.10: no wake-up is lost and no chain is skipped, changed or used twice",
    arguments: [1, 2, 16] as [UInt16],
    [
      RingFeatures(indirectDescriptors: true), RingFeatures(indirectDescriptors: true, eventIndex: true),
      RingFeatures(indirectDescriptors: true, inOrder: true),
      RingFeatures(indirectDescriptors: true, eventIndex: true, inOrder: true),
    ])
  func noLostWakeUps(size: UInt16, features: RingFeatures) throws {
    let shared = Shared()
    let driver = try RingFixture(size: size, index: 65000)
    let memory = driver.memory
    let configuration = try driver.configuration()
    if features.eventIndex { try driver.setUsedEvent(65000) }
    let thread = try Thread(name: "device") {
      do {
        let queue = try SplitVirtqueue(configuration, features: features, memory: memory)
        try Self.serve(queue, shared)
      } catch {
        shared.fail("the device: \(error)")
      }
    }
    do {
      try Self.drive(driver, features, shared)
    } catch {
      shared.fail("the driver: \(error)")
    }
    thread.join()
    #expect(shared.failure.withLock { $0 } == nil)
    #expect(shared.kickCount.load(ordering: .relaxed) <= Int(Self.chainCount))
    #expect(shared.callCount.load(ordering: .relaxed) <= Int(Self.chainCount) + 1)
  }

  /// Answers each number with its complement until the last, and sleeps whenever there is none.
  private static func serve(_ queue: consuming SplitVirtqueue, _ shared: Shared) throws {
    var expected: UInt64 = 0
    while expected < chainCount, !shared.hasFailed {
      queue.suppressKicks()
      while var chain = try queue.next() {
        guard let number = try chain.read(UInt64.self), number == expected else {
          return shared.fail("the device expected \(expected)")
        }
        expected += 1
        guard try chain.write(~number) else { return shared.fail("no room for \(number)") }
        queue.complete(chain)
      }
      queue.publish()
      if queue.needsNotification() {
        shared.callCount.add(1, ordering: .relaxed)
        shared.call.signal()
      }
      if try queue.requestKicks() { continue }
      if expected < chainCount, !shared.kick.wait() { return shared.fail("no kick after \(expected) chains") }
    }
  }

  /// Sends as many numbers as the ring has room for, and sleeps until the device has used some.
  private static func drive(_ fixture: consuming RingFixture, _ features: RingFeatures, _ shared: Shared) throws {
    var sent: UInt64 = 0
    var done: UInt64 = 0
    var slots: [UInt16: UInt64] = [:]
    while done < chainCount, !shared.hasFailed {
      let old = fixture.availableIndex
      while sent < chainCount {
        guard let slot = fixture.freeDescriptors.last else { break }
        try add(sent, inSlot: slot, to: &fixture)
        slots[slot] = sent
        sent += 1
      }
      try fixture.publish()
      if fixture.availableIndex != old, try fixture.wantsKick(since: old, eventIndex: features.eventIndex) {
        shared.kickCount.add(1, ordering: .relaxed)
        shared.kick.signal()
      }
      try fixture.setInterruptsUnwanted(true)
      while let heads = try takeHeads(&fixture, features) {
        for head in heads {
          guard slots.removeValue(forKey: head) == done else { return shared.fail("the driver expected \(done)") }
          let answer = try fixture.memory.read(UInt64.self, at: fixture.heap.offset(UInt64(head) * 16 + 8))
          guard answer == ~done else { return shared.fail("\(done) was answered \(answer)") }
          done += 1
        }
      }
      if done < sent, try !mayHaveMore(fixture, features), !shared.call.wait() {
        return shared.fail("no notification after \(done) chains")
      }
    }
  }

  /// A chain of a readable and a writable integer, in a table of its own, so that the smallest ring has room for it.
  private static func add(_ number: UInt64, inSlot slot: UInt16, to fixture: inout RingFixture) throws {
    let buffer = fixture.heap.offset(UInt64(slot) * 16)
    try fixture.memory.write(number, at: buffer)
    try fixture.memory.write(UInt64(0), at: buffer.offset(8))
    try fixture.add([.readable(buffer.rawValue, 8), .writable(buffer.rawValue + 8, 8)], shape: .indirect)
  }

  private static func takeHeads(_ fixture: inout RingFixture, _ features: RingFeatures) throws -> [UInt16]? {
    if features.inOrder { return try fixture.takeUsedInOrder()?.heads }
    return try fixture.takeUsed().map { [UInt16(truncatingIfNeeded: $0.id)] }
  }

  /// Asks to be told of the next used buffer, and then looks whether it came before that was seen.
  private static func mayHaveMore(_ fixture: RingFixture, _ features: RingFeatures) throws -> Bool {
    try fixture.setInterruptsUnwanted(false)
    if features.eventIndex { try fixture.setUsedEvent(fixture.usedIndex) }
    GuestMemory.fullBarrier()
    return try fixture.publishedUsedIndex != fixture.usedIndex
  }
}
