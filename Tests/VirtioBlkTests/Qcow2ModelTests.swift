import Support
import Synchronization
import Testing

@testable import VirtioBlk

/// One step on a disk and on an array that says what the disk must hold.
enum ModelStep: Equatable, Sendable {
  case write(at: Int, byteCount: Int, seed: UInt64)
  case discard(Range<Int>)
  case zeroes(Range<Int>, mayUnmap: Bool)
  case flush

  static func random(diskByteCount: Int, using generator: inout SeededGenerator) -> ModelStep {
    let sectors = diskByteCount / 512
    let start = Int.random(in: 0..<sectors, using: &generator)
    let most = [1, 8, 64, 300].randomElement(using: &generator) ?? 1
    let end = min(sectors, start + Int.random(in: 1...most, using: &generator))
    let range = start * 512..<end * 512
    switch Int.random(in: 0..<10, using: &generator) {
    case 0...5: return .write(at: range.lowerBound, byteCount: range.count, seed: generator.next())
    case 6: return .discard(range)
    case 7: return .zeroes(range, mayUnmap: false)
    case 8: return .zeroes(range, mayUnmap: true)
    default: return .flush
    }
  }

  static func bytes(_ count: Int, seed: UInt64) -> [UInt8] {
    var generator = SeededGenerator(seed: seed)
    let word = (0..<512).map { _ in UInt8(truncatingIfNeeded: generator.next()) | 1 }
    return (0..<count).map { word[$0 % 512] }
  }

  func apply(to probe: StoreProbe) throws {
    switch self {
    case .write(let place, let count, let seed): try probe.write(Self.bytes(count, seed: seed), at: UInt64(place))
    case .discard(let range): try probe.perform(.discard(UInt64(range.lowerBound)..<UInt64(range.upperBound)))
    case .zeroes(let range, let mayUnmap):
      try probe.perform(.writeZeroes(UInt64(range.lowerBound)..<UInt64(range.upperBound), mayUnmap: mayUnmap))
    case .flush: try probe.perform(.flush)
    }
  }

  /// What was discarded may read as anything: as far as this goes, as what the disk says.
  func apply(to model: inout [UInt8], discarded: (Range<Int>) throws -> [UInt8]) rethrows {
    switch self {
    case .write(let place, let count, let seed):
      model.replaceSubrange(place..<place + count, with: Self.bytes(count, seed: seed))
    case .discard(let range): model.replaceSubrange(range, with: try discarded(range))
    case .zeroes(let range, _): model.replaceSubrange(range, with: repeatElement(0, count: range.count))
    case .flush: break
    }
  }
}

struct ModelImage: Sendable, CustomTestStringConvertible {
  var version = 3
  var clusterByteCount = 65536
  var refcountBitCount = 16
  var byteCount = 1 << 20
  var hasBacking = false

  var testDescription: String {
    "v\(version), \(clusterByteCount) bytes, \(refcountBitCount) bits\(hasBacking ? ", overlay" : "")"
  }

  var options: Qcow2Options {
    var options = Qcow2Options()
    options.version = version
    options.clusterByteCount = clusterByteCount
    options.refcountBitCount = refcountBitCount
    return options
  }

  /// Makes the image and its backing file, whose length is odd.
  /// - Returns: what the disk holds.
  func make(_ name: String, in scratch: Scratch) throws -> [UInt8] {
    var contents = [UInt8](repeating: 0, count: byteCount)
    guard hasBacking else {
      try Qcow2Store.create(path: scratch.file(name), byteCount: UInt64(byteCount), options: options)
      return contents
    }
    let base = ModelStep.bytes(byteCount / 3 * 2 + 100, seed: 99)
    try scratch.put(base, "base.raw")
    contents.replaceSubrange(0..<base.count, with: base)
    try Qcow2Store.create(
      path: scratch.file(name), byteCount: UInt64(byteCount), backing: .init(path: "base.raw", format: .raw),
      options: options)
    return contents
  }

  static let all = [
    ModelImage(), ModelImage(version: 2), ModelImage(clusterByteCount: 512, refcountBitCount: 64),
    ModelImage(clusterByteCount: 512, refcountBitCount: 1), ModelImage(version: 2, clusterByteCount: 512),
    ModelImage(clusterByteCount: 2 << 20, byteCount: 9 << 20), ModelImage(hasBacking: true),
    ModelImage(version: 2, clusterByteCount: 4096, hasBacking: true),
    ModelImage(clusterByteCount: 1024, refcountBitCount: 8, hasBacking: true),
  ]
}

@Suite("qcow2 images against a model")
struct Qcow2ModelTests {
  private let scratch: Scratch

  init() throws { scratch = try Scratch() }

  @Test("After any steps the disk holds what an array does, now and when opened again", arguments: ModelImage.all)
  func model(_ image: ModelImage) throws {
    var generator = SeededGenerator(for: "Qcow2ModelTests.model \(image.testDescription)")
    let path = scratch.file("a.qcow2")
    var model = try image.make("a.qcow2", in: scratch)
    for _ in 0..<2 {
      var store: Qcow2Store? = try Qcow2Store(path: path)
      let probe = try StoreProbe(try #require(store))
      for _ in 0..<30 {
        let step = ModelStep.random(diskByteCount: image.byteCount, using: &generator)
        try step.apply(to: probe)
        try step.apply(to: &model) { try probe.read($0.count, at: UInt64($0.lowerBound)) }
      }
      try expectSame(probe.contents(), model)
      _ = consume probe
      store = nil
      try expectSame(StoreProbe(Qcow2Store(path: path, isReadOnly: true)).contents(), model)
      guard QemuTools.arePresent else { continue }
      try QemuTools.check(path)
      try expectSame(QemuTools.contents(path, in: scratch), model)
    }
  }

  @Test(
    "Killed at any write the image is in order, and holds of the last step all or nothing in each sector",
    arguments: [
      ModelImage(byteCount: 1 << 20), ModelImage(version: 2, clusterByteCount: 512, byteCount: 1 << 18),
      ModelImage(clusterByteCount: 512, refcountBitCount: 64, byteCount: 1 << 18),
      ModelImage(clusterByteCount: 4096, refcountBitCount: 1, byteCount: 1 << 20, hasBacking: true),
    ])
  func cuts(_ image: ModelImage) throws {
    var generator = SeededGenerator(for: "Qcow2ModelTests.cuts \(image.testDescription)")
    let steps = (0..<30).map { _ in ModelStep.random(diskByteCount: image.byteCount, using: &generator) }
    let fresh = try image.make("fresh.qcow2", in: scratch)
    let bytes = try scratch.bytes("fresh.qcow2")
    var cut = 0
    while true {
      try scratch.put(bytes, "a.qcow2")
      let isWhole = try run(steps, on: fresh, cutAfter: cut)
      if QemuTools.arePresent { try QemuTools.check(scratch.file("a.qcow2"), leaks: true) }
      if isWhole { break }
      cut += Int.random(in: 5...29, using: &generator)
    }
    #expect(cut > steps.count)
  }

  /// - Returns: whether all steps were done before the cut.
  private func run(_ steps: [ModelStep], on fresh: [UInt8], cutAfter most: Int) throws -> Bool {
    let path = scratch.file("a.qcow2")
    let counter = Countdown(most)
    let file = try ImageFile(path: path, isWritable: true) { (_) throws(StoreError) in try counter.count() }
    let probe = try StoreProbe(try Qcow2Store(file, path: path, isReadOnly: false))
    var model = fresh
    var next: [UInt8]?
    for step in steps {
      do {
        try step.apply(to: probe)
        try step.apply(to: &model) { try probe.read($0.count, at: UInt64($0.lowerBound)) }
      } catch StoreError.injected {
        var done = model
        step.apply(to: &done) { [UInt8](repeating: 0, count: $0.count) }
        next = done
        break
      }
    }
    let found = try StoreProbe(Qcow2Store(path: path, isReadOnly: true)).contents()
    for sector in stride(from: 0, to: model.count, by: 512)
    where found[sector..<sector + 512] != model[sector..<sector + 512] {
      let isNext = next.map { found[sector..<sector + 512] == $0[sector..<sector + 512] } ?? false
      try #require(isNext, "cut after \(most): sector at \(sector)")
    }
    return next == nil
  }
}

/// Counts down to the moment from which on every change is refused.
final class Countdown: Sendable {
  private let left: Mutex<Int>

  init(_ count: Int) { left = Mutex(count) }

  func count() throws(StoreError) {
    let isOver = left.withLock { (left) in
      left -= 1
      return left < 0
    }
    if isOver { throw .injected }
  }
}

func expectSame(_ found: [UInt8], _ wanted: [UInt8], sourceLocation: SourceLocation = #_sourceLocation) throws {
  guard found != wanted else { return }
  let place = zip(found, wanted).enumerated().first { $1.0 != $1.1 }?.offset ?? min(found.count, wanted.count)
  Issue.record("\(found.count) and \(wanted.count) bytes differ from \(place) on", sourceLocation: sourceLocation)
  throw StoreError.injected
}
