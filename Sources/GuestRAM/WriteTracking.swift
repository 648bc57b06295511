import LinuxIO
import Synchronization

/// What a write tracker and the thread that answers faults share.
final class WriteTracking: Sendable {
  private enum Stage: Sendable, Equatable { case running, failed(LinuxError), ended }

  private let userfaultfd: Userfaultfd
  /// Who tells which pages were written, nil when faults do.
  private let pageMap: PageMap?
  private let regions: [TrackedRegion]
  private let ending: Eventfd
  private let stage = Mutex(Stage.running)

  init(_ memory: GuestMemory, method: WriteTracker.Method) throws(GuestMemoryError) {
    var regions: [TrackedRegion] = []
    for region in memory.regions { regions.append(try TrackedRegion(region)) }
    self.regions = regions
    userfaultfd = try system { () throws(LinuxError) in
      try Userfaultfd(method.features, isForSystemCalls: method.isForSystemCalls)
    }
    pageMap = try system { () throws(LinuxError) in method == .asynchronous ? try PageMap() : nil }
    ending = try system { () throws(LinuxError) in try Eventfd() }
  }

  /// Protects all of memory that is in use. After an error `end` undoes what was done of it.
  func start() throws(GuestMemoryError) {
    for tracked in regions {
      try system { () throws(LinuxError) in
        let mapping = tracked.region.mapping
        try userfaultfd.register(mapping, at: tracked.bytes.lowerBound, byteCount: tracked.bytes.count, for: .writes)
        tracked.isRegistered.store(true, ordering: .relaxed)
        mapping.watchDiscards { [weak tracked] in tracked?.mark($0) {} }
        // A fault that is to be answered has to be met first, wherever it is.
        if pageMap != nil { try tracked.findEmpty() }
        try forEachPart(of: tracked, tracked.bytes) { (part, isEmpty) throws(LinuxError) in
          if !isEmpty { try protect(tracked, part) }
        }
      }
    }
  }

  /// Hands out what was written, and protects it before if it is to be taken.
  func visit(taking: Bool, _ body: (GuestRange) -> Void) throws(GuestMemoryError) {
    try checkStage()
    for tracked in regions {
      try system { () throws(LinuxError) in
        var next = tracked.bytes.lowerBound
        while let run = tracked.nextMarked(from: next) {
          try visitPageMap(of: tracked, next..<run.lowerBound, taking: taking, body)
          if taking {
            try tracked.unmark(run) { () throws(LinuxError) in try protect(tracked, run) }
          }
          body(tracked.region.guestRange(of: run))
          next = run.upperBound
        }
        try visitPageMap(of: tracked, next..<tracked.bytes.upperBound, taking: taking, body)
      }
    }
  }

  /// Has `answerFaults` return.
  func requestEnd() {
    stage.withLock { $0 = .ended }
    ending.signal()
  }

  /// Lets every write pass, and whoever waits for an answer go on.
  func end() {
    for tracked in regions where tracked.isRegistered.exchange(false, ordering: .relaxed) {
      let mapping = tracked.region.mapping
      mapping.watchDiscards(nil)
      // The kernel has no reason to refuse what it has registered, and with the descriptor all tracking ends anyway.
      try? userfaultfd.unregister(mapping, at: tracked.bytes.lowerBound, byteCount: tracked.bytes.count)
    }
  }

  private func checkStage() throws(GuestMemoryError) {
    switch stage.withLock({ $0 }) {
    case .running: return
    case .failed(let error): throw .system(error)
    case .ended: throw .trackingEnded
    }
  }

  private func visitPageMap(
    of tracked: TrackedRegion, _ bytes: Range<Int>, taking: Bool, _ body: (GuestRange) -> Void
  ) throws(LinuxError) {
    guard pageMap != nil else { return }
    try forEachPart(of: tracked, bytes) { (part, isEmpty) throws(LinuxError) in
      if isEmpty { return try visitFirstUse(of: tracked, part, taking: taking, body) }
      try pageMap?.forEachWritten(in: tracked.region.mapping, part, protecting: taking) {
        body(tracked.region.guestRange(of: $0))
      }
    }
  }

  /// Hands out what the file has by now where it had nothing before.
  private func visitFirstUse(
    of tracked: TrackedRegion, _ bytes: Range<Int>, taking: Bool, _ body: (GuestRange) -> Void
  ) throws(LinuxError) {
    var rest = bytes
    while let stretch = try tracked.nextStretchInUse(in: rest) {
      if taking {
        try protect(tracked, stretch)
        // Of a part the other pages are not protected: it is found as it was, until it is found as a whole.
        if tracked.isWholeStretch(stretch) { tracked.noteUsed(stretch) }
      }
      if try pageMap?.isPresent(stretch, of: tracked.region.mapping) == true {
        body(tracked.region.guestRange(of: stretch))
      } else {
        try tracked.forEachRunInUse(of: stretch) { body(tracked.region.guestRange(of: $0)) }
      }
      rest = stretch.upperBound..<bytes.upperBound
    }
  }

  private func forEachPart(
    of tracked: TrackedRegion, _ bytes: Range<Int>, _ body: (Range<Int>, _ isEmpty: Bool) throws(LinuxError) -> Void
  ) throws(LinuxError) {
    var rest = bytes
    while !rest.isEmpty {
      let (part, isEmpty) = tracked.nextPart(of: rest)
      try body(part, isEmpty)
      rest = part.upperBound..<bytes.upperBound
    }
  }

  private func protect(_ tracked: TrackedRegion, _ bytes: Range<Int>) throws(LinuxError) {
    let mapping = tracked.region.mapping
    if pageMap != nil {
      try pageMap?.protect(mapping, bytes)
    } else {
      try userfaultfd.setProtected(true, mapping, at: bytes.lowerBound, byteCount: bytes.count)
    }
  }
}

extension WriteTracking {
  /// Starts the thread that answers faults.
  func startAnswering() throws(GuestMemoryError) -> Thread {
    try system { () throws(LinuxError) in try Thread(name: "write tracker") { [self] in answerFaults() } }
  }

  /// Lets each write pass that somebody waits with, until the end. When it cannot go on, nobody has to wait any more.
  private func answerFaults() {
    do throws(LinuxError) {
      var failure: LinuxError?
      var ahead = FollowingWrites()
      let loop = try EventLoop()
      try loop.watch(ending.descriptor.rawValue) { [unowned loop] in loop.stop() }
      try loop.watch(userfaultfd.descriptor.rawValue) { [unowned loop, unowned self] in
        do throws(LinuxError) {
          try answer(&ahead)
        } catch {
          failure = error
          loop.stop()
        }
      }
      try loop.run()
      if let failure { throw failure }
    } catch {
      stage.withLock { if $0 == .running { $0 = .failed(error) } }
      end()
    }
  }

  private func answer(_ ahead: inout FollowingWrites) throws(LinuxError) {
    var failure: LinuxError?
    try userfaultfd.takeFaults { (fault) in
      do throws(LinuxError) {
        try answer(fault, &ahead)
      } catch {
        failure = error
      }
    }
    if let failure { throw failure }
  }

  private func answer(_ fault: Userfaultfd.Fault, _ ahead: inout FollowingWrites) throws(LinuxError) {
    for tracked in regions {
      let mapping = tracked.region.mapping
      guard let offset = fault.offset(in: mapping), tracked.bytes.contains(offset) else { continue }
      let pageByteCount = tracked.region.backingPageByteCount
      let page = offset / pageByteCount * pageByteCount
      // A huge page is a run of its own.
      let length = pageByteCount > 4096 ? pageByteCount : ahead.pageCount(for: fault.address) * pageByteCount
      let bytes = (page..<page + length).clamped(to: tracked.bytes)
      ahead.answered(fault.address, byteCount: bytes.count)
      // Under the lock: a mark that is taken before the page is written, or comes after, would be a write lost.
      return try tracked.mark(bytes) { () throws(LinuxError) in
        try userfaultfd.setProtected(false, mapping, at: bytes.lowerBound, byteCount: bytes.count)
      }
    }
  }
}

/// How many pages to let go at once: one, and more and more for a writer that goes through memory page by page.
struct FollowingWrites {
  private static let most = 64
  private var next: UInt64 = 0
  private var count = 1

  /// For the page that somebody waits for now.
  mutating func pageCount(for address: UInt64) -> Int {
    count = address == next ? min(2 * count, Self.most) : 1
    return count
  }

  mutating func answered(_ address: UInt64, byteCount: Int) {
    next = address &+ UInt64(byteCount)
  }
}
