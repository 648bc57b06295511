public import GuestRAM
import LinuxIO

/// What a destination lets a source have of it.
public struct DestinationLimits: Equatable, Sendable {
  /// The most bytes of guest memory.
  public var mostMemory: UInt64
  /// The most bytes of saved state, which are held in this process.
  public var mostState: Int
  /// How long the source may take for each frame, and to give the guest away.
  public var time: Duration
  /// How many threads get memory for what comes over a single connection, and how many store it, beside the one that
  /// receives; one of each is enough where source and destination share two cores.
  public var populatingThreadCount: Int
  /// Whether what arrives is pinned: no page of it goes to swap, from the first on. What the guest does not have, or gives
  /// back, costs nothing all the same. A process that may not pin as much as the guest's memory takes no guest.
  public var pinsMemory: Bool
  /// Whether what fills 2 MiB of a memory file gets a huge page, where nobody waits for pages that come late: the guest comes
  /// sooner and runs faster. What a balloon takes out of one while a device uses another part of it stays in memory.
  public var usesHugePages: Bool
  /// How many memory files a source on this machine may hand its guest over in, at most 253; 0 for no such hand-over.
  ///
  /// A source that may hand over can go on to write the guest's memory whenever it likes, so it has to be trusted.
  public var mostFiles: Int

  public init(
    mostMemory: UInt64, mostState: Int = 256 << 20, time: Duration = .seconds(30), populatingThreadCount: Int = 1,
    mostFiles: Int = 0, pinsMemory: Bool = false, usesHugePages: Bool = true
  ) {
    self.usesHugePages = usesHugePages
    self.pinsMemory = pinsMemory
    self.mostFiles = min(max(0, mostFiles), MemoryFiles.most)
    self.mostMemory = mostMemory
    self.mostState = mostState
    self.time = time
    self.populatingThreadCount = populatingThreadCount
  }
}

/// A guest that has arrived, in full or but for pages that follow it.
public struct ArrivedGuest: Sendable {
  /// The guest's memory; nothing was stored where the guest has nothing or zeros.
  public let memory: GuestMemory
  /// What has not come yet, if pages follow the guest: whoever touches one of them waits for it.
  public let late: LateMemory?
  /// The saved state as the source gave it.
  public let state: [UInt8]
  /// What the source told about the guest before it sent it.
  public let description: GuestDescription
}

/// How a guest's memory comes to its destination.
enum MemoryWay: Equatable {
  /// Over the connection; with what the move is known by if pages may follow the guest.
  case sent(MoveToken?)
  /// As the files that it is in.
  case files
}

/// The side that takes a guest: `receive` it, restore its devices, and `confirm`. `Source` tells who runs it when.
///
/// Letting go of the value before `confirm` ends the connection and leaves the guest to the source.
public struct Destination<Link: Channel & ~Copyable>: ~Copyable {
  var stream: FrameStream<Link>
  private let producer: String
  let limits: DestinationLimits
  var report = MigrationReport()
  private var start = MonotonicClock.now
  private var isReceived = false
  /// The memory whose pinned pages are to be counted once the guest runs: it takes a look at all of them.
  private var pinnedMemory: GuestMemory?
  /// How the guest gets its pages, if some follow it.
  private var arrival: LateArrival<Link>?
  /// What has the memory's page faults until the guest is here.
  var store: PageStore?
  var lanes: ReceivingLanes?
  /// What has come over further connections, in bytes.
  var laneByteCount: UInt64 = 0
  /// What of their pages has been counted.
  var laneCounts = (data: UInt64(0), zero: UInt64(0))

  /// - Parameter producer: names this program to people, at most 255 bytes of UTF-8; what is longer is cut off.
  public init(_ link: consuming Link, producer: String, limits: DestinationLimits) {
    stream = FrameStream(link, limit: limits.time)
    self.producer = producer
    self.limits = limits
  }

  /// Receives a guest into new memory, which gets nothing where the guest has nothing or zeros.
  ///
  /// - Parameters:
  ///   - makeMemory: makes memory of the described layout that nobody has used yet. Sizes are within the limit.
  ///   - refusing: judges the guest before its first page: why it cannot be taken, or nil.
  ///   - accepting: takes the next further connection within so long, if the source has some to offer: `accept` of the
  ///     listener. Those of strangers are let go of. With nil the guest comes over the one connection.
  /// - Returns: the guest, which is still the source's: it must not run before `confirm` has returned. If it was handed
  ///   over (`DestinationLimits.mostFiles`), its memory is the source's too, and must not be written before either.
  /// - Throws: the guest has been left to the source.
  public mutating func receive(
    makeMemory: (GuestDescription) throws(GuestMemoryError) -> GuestMemory = { (description) throws(GuestMemoryError) in
      try description.makeMemory()
    },
    refusing: (GuestDescription) -> String? = { _ in nil },
    accepting: ((Duration) throws(MigrationError) -> any Channel)? = nil
  ) throws(MigrationError) -> ArrivedGuest {
    start = MonotonicClock.now
    do {
      let (description, way) = try introduce(refusing)
      let (memory, state) =
        try way == .files ? takeFiles(description) : take(description, way, makeMemory, accepting)
      isReceived = true
      if limits.pinsMemory { pinnedMemory = memory }
      return ArrivedGuest(memory: memory, late: arrival?.late, state: state, description: description)
    } catch {
      lanes?.end()
      throw stream.giveUp(lanes?.failure ?? error)
    }
  }

  /// Tells the source that the received guest could run here, and waits until it gives the guest away.
  ///
  /// Only for a guest that was received. Restore its devices first: a guest that cannot run is to be refused.
  ///
  /// A guest that pages follow (`ArrivedGuest.late`) runs from `starting` on, and the call returns when all are here. Any
  /// other is better started there too: what is cleaned up after it takes some milliseconds for each GiB.
  /// - Parameters:
  ///   - starting: called once the guest is here; from then on it runs here alone.
  ///   - recovering: gives another connection from the same source for one that has broken while pages follow the guest;
  ///     nil gives them up. It is asked again when that connection fails too.
  /// - Throws: the guest must not run here; or, `interrupted`, it does and waits for pages that do not come.
  public consuming func confirm(
    starting: () -> Void = {}, recovering: (MigrationError) -> Link? = { _ in nil }
  ) throws(MigrationError) -> MigrationReport {
    precondition(isReceived, "there is no guest to confirm")
    if let arrival {
      try arrival.confirm(&report, starting: starting, recovering: recovering)
      report.close(since: start, wireByteCount: report.wireByteCount + laneByteCount)
      if let pinnedMemory { report.countPinned(pinnedMemory) }
      return report
    }
    do {
      // From `ready` on the source decides alone.
      try stream.outliveCancellation()
      try answer(.ready)
      _ = try stream.receive(.commit)
    } catch {
      throw stream.giveUp(error)
    }
    do {
      try answer(.committed)
    } catch {
      report.acknowledgementError = error
    }
    starting()
    report.close(since: start, wireByteCount: stream.byteCount + laneByteCount)
    store?.stop()
    if let pinnedMemory { report.countPinned(pinnedMemory) }
    return report
  }

  /// Leaves the guest to the source.
  ///
  /// - Parameter reason: what the source reports, such as which device could not be restored.
  public consuming func refuse(_ reason: String) {
    if let arrival { arrival.refuse(.unusable(reason)) } else { _ = stream.giveUp(.unusable(reason)) }
  }
}

// MARK: - Receiving

extension Destination where Link: ~Copyable {
  /// - Returns: what the source's guest is like, and how its memory comes.
  private mutating func introduce(
    _ refusing: (GuestDescription) -> String?
  ) throws(MigrationError) -> (GuestDescription, MemoryWay) {
    if stream.hasReturnPath { try stream.open(Hello(.destination, producer: producer)) }
    let hello = try stream.receiveHello()
    guard hello.role == .source else { throw .sameRole }
    var frame = try stream.receive()
    var way = MemoryWay.sent(nil)
    if frame.kind == .postcopy {
      way = .sent(try MoveToken(frame))
      frame = try stream.receive()
    } else if frame.kind == .handOver {
      way = .files
    }
    guard frame.kind == (way == .files ? .handOver : .description) else { throw .unexpectedFrame(frame.kind) }
    let description = try GuestDescription(frame.payload)
    guard description.memoryByteCount <= limits.mostMemory else {
      throw .tooMuchMemory(byteCount: description.memoryByteCount, most: limits.mostMemory)
    }
    let reason = refusing(description) ?? objection(to: way)
    if let reason { throw .refused(source: hello.producer, destination: producer, reason: reason) }
    return (description, way)
  }

  /// Why this side cannot have a guest's memory in some way.
  private func objection(to way: MemoryWay) -> String? {
    switch way {
    case .sent(nil): nil
    case .sent: stream.hasReturnPath ? nil : "it could not ask for pages"
    case .files: stream.passesDescriptors && limits.mostFiles > 0 ? nil : "it takes no memory files"
    }
  }

  /// Takes a guest whose memory is sent, all of it or but for what may follow.
  private mutating func take(
    _ description: GuestDescription, _ way: MemoryWay,
    _ makeMemory: (GuestDescription) throws(GuestMemoryError) -> GuestMemory,
    _ accepting: ((Duration) throws(MigrationError) -> any Channel)?
  ) throws(MigrationError) -> (GuestMemory, state: [UInt8]) {
    let token: MoveToken? = if case .sent(let token) = way { token } else { nil }
    let memory = try make(description, makeMemory)
    if token != nil { try checkPostcopy(into: memory) }
    try answer(.accept)
    let (state, outstanding) = try receiveGuest(memory, accepting, mayLackPages: token != nil)
    if let token, outstanding.count > 0 {
      arrival = try LateArrival(memory, outstanding, token, over: stream, producer: producer)
    }
    return (memory, state)
  }

  private func make(
    _ description: GuestDescription, _ makeMemory: (GuestDescription) throws(GuestMemoryError) -> GuestMemory
  ) throws(MigrationError) -> GuestMemory {
    let memory = try inGuestMemory { () throws(GuestMemoryError) in try makeMemory(description) }
    try description.check(memory)
    if limits.pinsMemory { try inGuestMemory { () throws(GuestMemoryError) in _ = try memory.pin() } }
    return memory
  }

  /// Tells the source, if there is anybody to be told.
  mutating func answer(_ kind: FrameKind) throws(MigrationError) {
    if stream.hasReturnPath { try stream.send(kind) }
  }
}

extension GuestDescription {
  /// Unused memory of this layout: for each region a memory file of its own.
  public func makeMemory(hugePages: Bool = false) throws(GuestMemoryError) -> GuestMemory {
    var made: [MemoryRegion] = []
    for region in regions {
      made.append(try MemoryRegion(memoryFile: region.byteCount, start: region.start, hugePages: hugePages))
    }
    return try GuestMemory(regions: made)
  }
}
