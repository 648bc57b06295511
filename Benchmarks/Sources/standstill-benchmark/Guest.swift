import GuestRAM
import LinuxIO
import Migration
import Synchronization

/// A guest with memory in use, and one thread that writes it, page by page, as fast as it can.
final class Guest: LiveGuest, Sendable {
  private struct Order {
    var runs = true
    var isPaused = false
    var isOver = false
  }

  let memory: GuestMemory
  let writeCount = Atomic<UInt64>(0)
  private let order = Monitor(Order())
  private let news = WakeUp()
  private let thread = Mutex<Thread?>(nil)

  /// - Parameter isWriting: whether it does anything but hold its memory.
  init(byteCount: UInt64, isWriting: Bool = false) throws {
    memory = try GuestMemory(byteCount: byteCount)
    var random = SystemRandomNumberGenerator()
    for page in stride(from: 0, to: byteCount, by: 4096) {
      try memory.write(UInt64.random(in: 1 ... .max, using: &random), at: GuestAddress(page))
    }
    guard isWriting else { return }
    thread.withLock { $0 = try? Thread(name: "guest") { [self] in run() } }
  }

  private func run() {
    let pageCount = memory.byteCount / 4096
    var page: UInt64 = 0
    while mayGoOn() {
      for _ in 0..<256 {
        // A stride that meets every page, far from the one before.
        page = (page &+ 40_503) % pageCount
        try? memory.write(page, at: GuestAddress(page * 4096))
        writeCount.add(1, ordering: .relaxed)
      }
    }
  }

  private func mayGoOn() -> Bool {
    order.wait(on: news) { (order) -> Bool? in
      if order.isOver { return false }
      order.isPaused = !order.runs
      news.wakeAll()
      return order.runs ? true : nil
    } ?? false
  }

  func end() {
    order.withLock { $0.isOver = true }
    news.wakeAll()
    thread.withLock { $0.take() }?.join()
  }

  func beginTracking() throws(MigrationError) {}
  func takeWrites() throws(MigrationError) -> [GuestRange] { [] }
  func endTracking() {}

  func pause() throws(MigrationError) -> [UInt8] {
    let isWriting = thread.withLock { $0 != nil }
    order.withLock { $0.runs = false }
    news.wakeAll()
    if isWriting { _ = order.wait(on: news) { $0.isPaused ? true : nil } }
    return [UInt8](repeating: 7, count: 4096)
  }

  func resume() {
    order.withLock { $0.runs = true }
    news.wakeAll()
  }
}
