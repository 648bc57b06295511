import GuestRAM
import LinuxIO
import Synchronization

/// The memory of a guest that runs before all of its pages have come: whoever touches one that is missing waits for it.
///
/// Once all is there it does nothing more. If the source is lost for good before that, those who wait go on waiting: a
/// guest must not run on with pages that it does not have.
public final class LateMemory: Sendable {
  fileprivate struct State {
    var outstanding: OutstandingPages
    /// The outstanding pages that have been given back to the host: what comes of them is of no use.
    var dropped: OutstandingPages
    /// The pages that somebody waits for, and since when.
    var wanted: [GuestAddress: UInt64] = [:]
    var waits = PageWaits()
    var failure: MigrationError?
  }

  private let memory: GuestMemory
  private let missing: MissingPages
  private let state: Mutex<State>
  private let ending: Eventfd

  /// From the return on pages that are missing are waited for. Those that are outstanding have to be missing.
  init(_ memory: GuestMemory, _ outstanding: OutstandingPages) throws(MigrationError) {
    self.memory = memory
    state = Mutex(State(outstanding: outstanding, dropped: outstanding.emptied))
    missing = try inGuestMemory { () throws(GuestMemoryError) in try MissingPages(of: memory) }
    ending = try connecting { () throws(LinuxError) in try Eventfd() }
    // It is zero from then on. What is being stored is there before it goes.
    missing.announceDiscards { [weak self] (range) in self?.state.withLock { $0.drop(range) } }
  }

  /// How much of the memory has not come yet, in bytes.
  public var missingByteCount: UInt64 { state.withLock { $0.outstanding.count } * GuestPage.byteCount }

  /// Gives up what is missing, so that nobody waits any more: it reads as zeros. Only for a guest that no longer runs.
  public func abandon() {
    ending.signal()
    missing.stop()
  }

  /// Why nobody learns of missing pages any more, if that is so.
  var failure: MigrationError? { state.withLock { $0.failure } }
  /// How long the guest has waited for pages.
  var waits: PageWaits { state.withLock { $0.waits } }
  /// What has not come yet.
  var outstanding: OutstandingPages { state.withLock { $0.outstanding } }
  /// The pages that somebody waits for.
  var wanted: [GuestAddress] { state.withLock { Array($0.wanted.keys) } }

  // MARK: - Pages that come

  /// Stores pages that have come. A page is there before it stops being outstanding, since what is missing and not
  /// outstanding is taken as zero.
  func store(_ run: PageRun, _ bytes: [UInt8]) throws(MigrationError) {
    // Under the lock, so that no page is given back between the look and its coming.
    let withoutData = try state.withLock { (state) throws(MigrationError) -> [GuestAddress] in
      guard state.outstanding.containsAll(of: run.range) else { throw .unplannedPages(run.start) }
      if !run.isZero { try provide(run, bytes, state.dropped) }
      try state.outstanding.remove(run.range)
      let waitedFor = state.takeWanted(in: run, now: MonotonicClock.now)
      return run.isZero ? waitedFor : waitedFor.filter(state.dropped.contains)
    }
    // Who waits for a page of zeros, or for one that has been given back, is woken by getting one; nobody else needs the memory.
    for page in withoutData { try provideZeros(page) }
  }

  private func provide(
    _ run: PageRun, _ bytes: [UInt8], _ dropped: OutstandingPages
  ) throws(MigrationError) {
    try inGuestMemory { () throws(GuestMemoryError) in
      guard dropped.count > 0 else {
        _ = try missing.provide(bytes.span, at: run.start)
        return
      }
      for offset in stride(from: 0, to: bytes.count, by: Int(GuestPage.byteCount)) {
        let page = GuestAddress(run.start.rawValue + UInt64(offset))
        guard !dropped.contains(page) else { continue }
        _ = try missing.provide(bytes.span.extracting(offset..<offset + Int(GuestPage.byteCount)), at: page)
      }
    }
  }

  private func provideZeros(_ page: GuestAddress) throws(MigrationError) {
    let range = GuestRange(start: page, byteCount: GuestPage.byteCount)
    try inGuestMemory { () throws(GuestMemoryError) in _ = try missing.provideZeros(range) }
  }

  // MARK: - Pages that are missed

  /// Starts the thread that learns of missing pages, until they are given up.
  /// - Parameters:
  ///   - request: asks the source for a page. If it cannot, the page is asked for when it can be.
  ///   - failed: told that the thread cannot go on; `failure` says why.
  func startAnswering(
    _ request: @escaping @Sendable (GuestAddress) -> Void, failed: @escaping @Sendable () -> Void
  ) throws(MigrationError) {
    try connecting { () throws(LinuxError) in
      _ = try Thread(name: "late pages") { [self] in
        do throws(MigrationError) {
          try answer(request)
        } catch {
          state.withLock { $0.failure = error }
          failed()
        }
      }
    }
  }

  private func answer(_ request: @escaping @Sendable (GuestAddress) -> Void) throws(MigrationError) {
    var failure: MigrationError?
    try connecting { () throws(LinuxError) in
      let loop = try EventLoop()
      try loop.watch(ending.descriptor.rawValue) { [unowned loop] in loop.stop() }
      try loop.watch(missing.descriptor) { [unowned loop, unowned self] in
        do throws(MigrationError) {
          try answerFaults(request)
        } catch {
          failure = error
          loop.stop()
        }
      }
      try loop.run()
    }
    if let failure { throw failure }
  }

  private func answerFaults(_ request: (GuestAddress) -> Void) throws(MigrationError) {
    var pages: [GuestAddress] = []
    try inGuestMemory { () throws(GuestMemoryError) in try missing.takeFaults { pages.append($0.start) } }
    let now = MonotonicClock.now
    for page in pages {
      let (isOutstanding, isNew) = state.withLock { (state) in
        guard state.outstanding.contains(page), !state.dropped.contains(page) else { return (false, false) }
        let isNew = state.wanted[page] == nil
        if isNew { state.wanted[page] = now }
        return (true, isNew)
      }
      // What is missing and does not come is a page that nobody has used, or has given back.
      if !isOutstanding { try provideZeros(page) } else if isNew { request(page) }
    }
  }
}

extension LateMemory.State {
  /// Notes what of a range is outstanding and has been given back.
  fileprivate mutating func drop(_ range: GuestRange) {
    for offset in stride(from: 0, to: range.byteCount, by: Int(GuestPage.byteCount)) where outstanding.count > 0 {
      let page = GuestAddress(range.start.rawValue + offset)
      guard outstanding.contains(page) else { continue }
      // It is a page of this memory, as the outstanding ones are.
      try? dropped.insert(GuestRange(start: page, byteCount: GuestPage.byteCount))
    }
  }

  /// The pages of a run that somebody waited for, who need wait no longer.
  fileprivate mutating func takeWanted(in run: PageRun, now: UInt64) -> [GuestAddress] {
    var pages: [GuestAddress] = []
    for index in 0..<UInt64(run.pageCount) where !wanted.isEmpty {
      let page = GuestAddress(run.start.rawValue + index * GuestPage.byteCount)
      guard let moment = wanted.removeValue(forKey: page) else { continue }
      waits.add(nanoseconds: now > moment ? now - moment : 0)
      pages.append(page)
    }
    return pages
  }
}
