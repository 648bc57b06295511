import LinuxIO
import Support
import Synchronization
import Testing

@testable import VirtioBlk

@Suite("qcow2 images used by several threads")
struct Qcow2ThreadTests {
  private static let threadCount = 3
  private static let blockByteCount = 4096

  @Test(
    "Threads that share clusters, and not blocks, each read what they wrote", arguments: [false, true], [4096, 16384])
  func threads(hasBacking: Bool, clusterByteCount: Int) throws {
    let scratch = try Scratch()
    let image = ModelImage(clusterByteCount: clusterByteCount, byteCount: 1 << 20, hasBacking: hasBacking)
    let model = try image.make("a.qcow2", in: scratch)
    let store = try Qcow2Store(path: scratch.file("a.qcow2"))
    let seed = SeededGenerator(for: "Qcow2ThreadTests.threads").seed
    let failed = Failures()
    var running: [Handover<Bool>] = []
    for index in 0..<Self.threadCount {
      let done = try Handover<Bool>()
      running.append(done)
      _ = try Thread(name: "qcow2 \(index)") {
        do {
          try Self.run(index, on: store, model, seed: seed &+ UInt64(index))
        } catch { failed.add("\(index): \(error)") }
        done.put(true)
      }
    }
    for thread in running { _ = thread.wait() }
    #expect(failed.all.isEmpty)
    try store.setExclusive(false)
    if QemuTools.arePresent { try QemuTools.check(scratch.file("a.qcow2")) }
  }

  private static func run(_ index: Int, on store: Qcow2Store, _ model: [UInt8], seed: UInt64) throws {
    var generator = SeededGenerator(seed: seed)
    let probe = try StoreProbe(store)
    let mine = stride(from: index * blockByteCount, to: model.count - blockByteCount, by: threadCount * blockByteCount)
    var model = model
    for _ in 0..<400 {
      let place = mine.randomElement(using: &generator)
      let range = place..<place + blockByteCount
      let step: ModelStep =
        switch Int.random(in: 0..<8, using: &generator) {
        case 0...3: .write(at: place, byteCount: blockByteCount, seed: generator.next())
        case 4: .zeroes(range, mayUnmap: true)
        case 5: .flush
        default: .discard(range)
        }
      try step.apply(to: probe)
      try step.apply(to: &model) { try probe.read($0.count, at: UInt64($0.lowerBound)) }
      let check = mine.randomElement(using: &generator)
      try expectSame(
        probe.read(blockByteCount, at: UInt64(check)), Array(model[check..<check + blockByteCount]))
    }
  }
}

final class Failures: Sendable {
  private let list = Mutex<[String]>([])

  var all: [String] { list.withLock { $0 } }

  func add(_ failure: String) { list.withLock { $0.append(failure) } }
}

extension StrideTo<Int> {
  fileprivate func randomElement(using generator: inout SeededGenerator) -> Int {
    Array(self).randomElement(using: &generator) ?? 0
  }
}
