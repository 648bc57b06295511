import Support
import Synchronization
import Testing

@testable import VirtioBlk

/// What a medium may hold after a loss of power: what was synchronized, and of the rest any part.
final class PowerLoss: Sendable {
  private struct State {
    var durable: [UInt8]
    var pending: [(offset: Int, bytes: [UInt8])] = []
    var last: ImageFile.Change?
    var seed: UInt64
    var images: [[UInt8]] = []
  }

  private let scratch: Scratch
  private let name: String
  private let state: Mutex<State>

  init(_ name: String, in scratch: Scratch, seed: UInt64) throws {
    self.scratch = scratch
    self.name = name
    state = Mutex(State(durable: try scratch.bytes(name), seed: seed))
  }

  /// Images that a loss of power could have left since this was last asked.
  func images() -> [[UInt8]] {
    state.withLock { (state) in
      defer { state.images = [] }
      return state.images
    }
  }

  func note(_ change: ImageFile.Change) throws(StoreError) {
    // The change before this one is in the file now.
    let file: [UInt8]
    do { file = try scratch.bytes(name) } catch { throw .injected }
    state.withLock { (state) in
      switch state.last {
      case .write(let offset, let count), .zero(let offset, let count), .punch(let offset, let count):
        let start = min(Int(offset), file.count)
        state.pending.append((start, Array(file[start..<min(start + count, file.count)])))
      case .extend(let count): state.pending.append((Int(count), []))
      case .synchronize:
        state.durable = file
        state.pending = []
      case nil: break
      }
      state.last = change
      var generator = SeededGenerator(seed: state.seed)
      state.seed = generator.next()
      if generator.once(in: 3) { state.images.append(Self.image(state, &generator)) }
    }
  }

  private static func image(_ state: State, _ generator: inout SeededGenerator) -> [UInt8] {
    var image = state.durable
    for (offset, bytes) in state.pending where generator.once(in: 2) {
      let missing = offset + bytes.count - image.count
      if missing > 0 { image += [UInt8](repeating: 0, count: missing) }
      image.replaceSubrange(offset..<offset + bytes.count, with: bytes)
    }
    return image
  }
}

@Suite("qcow2 images after a loss of power")
struct Qcow2PowerTests {
  private let scratch: Scratch

  init() throws { scratch = try Scratch() }

  @Test(
    "Whatever of the last writes is lost the image is in order, and all that was flushed and not touched since is there",
    arguments: [
      ModelImage(clusterByteCount: 4096, byteCount: 1 << 18),
      ModelImage(version: 2, clusterByteCount: 512, byteCount: 1 << 17),
      ModelImage(clusterByteCount: 512, refcountBitCount: 64, byteCount: 1 << 18),
      ModelImage(clusterByteCount: 4096, byteCount: 1 << 18, hasBacking: true),
    ])
  func loss(_ image: ModelImage) throws {
    var generator = SeededGenerator(for: "Qcow2PowerTests.loss \(image.testDescription)")
    var model = try image.make("a.qcow2", in: scratch)
    var flushed = model
    var touched: Set<Int> = []
    let power = try PowerLoss("a.qcow2", in: scratch, seed: generator.next())
    let path = scratch.file("a.qcow2")
    let file = try ImageFile(path: path, isWritable: true) { (change) throws(StoreError) in try power.note(change) }
    let probe = try StoreProbe(Qcow2Store(file, path: path, isReadOnly: false))
    for _ in 0..<50 {
      let step = ModelStep.random(diskByteCount: image.byteCount, using: &generator)
      touched.formUnion(step.sectors)
      try step.apply(to: probe)
      try step.apply(to: &model) { try probe.read($0.count, at: UInt64($0.lowerBound)) }
      for image in power.images() { try check(image, holds: flushed, except: touched) }
      if step == .flush { (flushed, touched) = (model, []) }
    }
    try probe.store.resize(toByteCount: 1 << 30)
    try probe.store.setExclusive(false)
    for image in power.images() { try check(image, holds: flushed, except: touched) }
  }

  private func check(_ image: [UInt8], holds flushed: [UInt8], except touched: Set<Int>) throws {
    try scratch.put(image, "lost.qcow2")
    let path = scratch.file("lost.qcow2")
    if QemuTools.arePresent { try QemuTools.check(path, leaks: true) }
    let probe = try StoreProbe(Qcow2Store(path: path, isReadOnly: true))
    for sector in 0..<flushed.count / 512 where !touched.contains(sector) {
      let found = try probe.read(512, at: UInt64(sector) * 512)
      try #require(found == Array(flushed[sector * 512..<sector * 512 + 512]), "sector \(sector)")
    }
  }
}

extension ModelStep {
  fileprivate var sectors: Range<Int> {
    switch self {
    case .write(let place, let count, _): place / 512..<(place + count) / 512
    case .discard(let range), .zeroes(let range, _): range.lowerBound / 512..<range.upperBound / 512
    case .flush: 0..<0
    }
  }
}
