import GuestRAM
import LinuxIO

/// A channel that the two directions of a stream share, so that one thread may send while another receives.
final class SharedLink<Link: Channel & ~Copyable>: Sendable {
  let link: Link

  init(_ link: consuming Link) {
    self.link = link
  }
}

/// The frames that this side sends, numbered.
///
/// Of its copies only one goes on sending.
struct FrameSender<Link: Channel & ~Copyable>: Sendable {
  let shared: SharedLink<Link>
  var limit: Duration
  private var sentCount: UInt32 = 0
  /// Whether all that has gone is whole frames.
  private(set) var isBetweenFrames = true
  /// The bytes that have gone.
  private(set) var byteCount: UInt64 = 0
  /// How data goes that nobody changes.
  var zeroCopy = ZeroCopy.never

  init(_ shared: SharedLink<Link>, limit: Duration) {
    self.shared = shared
    self.limit = limit
  }

  /// Ends the connection for both sides, as far as that can be told them.
  func shutDown() { shared.link.shutDown() }

  mutating func send(_ kind: FrameKind, _ payload: [UInt8] = []) throws(MigrationError) {
    try send(Frame(kind: kind, payload: payload))
  }

  /// - Parameter opening: what goes before the frame.
  mutating func send(_ frame: Frame, after opening: [UInt8] = []) throws(MigrationError) {
    let number = sentCount
    sentCount &+= 1
    let bytes = opening + frame.header(number: number) + frame.payload
    isBetweenFrames = false
    try connecting { () throws(LinuxError) in try shared.link.send(bytes, within: limit) }
    isBetweenFrames = frame.dataByteCount == 0
    byteCount += UInt64(bytes.count)
  }

  /// Sends a frame whose payload, and not the header, comes with descriptors, so that the peer expects them.
  mutating func send(
    _ kind: FrameKind, _ payload: [UInt8], descriptors: borrowing DescriptorList
  ) throws(MigrationError) {
    let header = Frame(kind: kind, payload: payload).header(number: sentCount)
    sentCount &+= 1
    let numbers = descriptors.rawValues
    isBetweenFrames = false
    try connecting { () throws(LinuxError) in
      try shared.link.send(header, within: limit)
      try shared.link.send(payload, descriptors: numbers, within: limit)
    }
    isBetweenFrames = true
    byteCount += UInt64(header.count + payload.count)
  }

  /// Sends a frame of page data straight from guest memory, or from where it has been copied.
  mutating func sendPages(
    _ pages: PageFrame, of memory: GuestMemory, through stage: PageStage? = nil, noting sent: SentPages? = nil
  ) throws(MigrationError) {
    var (holder, buffers) = (memory, pages.buffers)
    var start: GuestAddress?
    if let stage {
      let copy = try stage.take(pages, of: memory)
      (holder, buffers, start) = (stage.memory, [copy], copy.address)
    }
    let payload = try pages.payload(holder, staged: start, noting: sent)
    try send(Frame(kind: .pages, payload: payload, dataByteCount: pages.byteCount))
    try sendData(buffers, of: holder, isUnchanging: stage == nil)
  }

  /// Sends outstanding pages of a guest that stands still: so few at a time that to copy them is cheaper.
  mutating func sendLate(_ late: LateRun, of memory: GuestMemory) throws(MigrationError) {
    try send(late.frame)
    if !late.run.isZero { try sendData([late.run.buffer], of: memory) }
  }

  /// Names outstanding pages.
  mutating func sendOutstanding(_ pages: OutstandingPages) throws(MigrationError) {
    var runs: [PageRun] = []
    try pages.forEachRun { (run) throws(MigrationError) in
      runs.append(run)
      guard runs.count == PageRun.mostInPlan else { return }
      try send(.outstanding, PageRun.payload(runs))
      runs = []
    }
    if !runs.isEmpty { try send(.outstanding, PageRun.payload(runs)) }
  }

  /// Sends a frame of page data that lies in one piece in other memory than the guest's.
  mutating func sendPages(
    _ pages: PageFrame, stagedIn holder: GuestMemory, at start: GuestAddress
  ) throws(MigrationError) {
    let payload = try pages.payload(holder, staged: start)
    try send(Frame(kind: .pages, payload: payload, dataByteCount: pages.byteCount))
    try sendData([GuestBuffer(address: start, byteCount: pages.byteCount)], of: holder)
  }

  /// Sends the page data that the frame before has announced.
  /// - Parameter isUnchanging: whether nobody writes the memory before all of it has gone.
  private mutating func sendData(
    _ buffers: [GuestBuffer], of holder: GuestMemory, isUnchanging: Bool = false
  ) throws(MigrationError) {
    let total = buffers.reduce(0) { $0 + $1.byteCount }
    var vectors = IOVectors(capacity: buffers.count)
    do {
      _ = try holder.drain(buffers, using: &vectors) { (vectors) throws(MigrationError) in
        try connecting { () throws(LinuxError) in
          if isUnchanging { try sendUnchanging(vectors) } else { try shared.link.send(vectors, within: limit) }
        }
        return total
      }
    } catch {
      throw MigrationError(error)
    }
    isBetweenFrames = true
    byteCount += UInt64(total)
  }
}
