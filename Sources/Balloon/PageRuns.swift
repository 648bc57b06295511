public import GuestRAM

/// Turns page frames in any order into as few ranges as possible.
///
/// Frames next to each other cost one comparison, whether they rise or fall. The room is kept from one request to the
/// next, so that no request allocates.
public struct PageRuns: Sendable {
  /// The bytes of a page frame, whatever page size the guest or the host uses (5.5.6).
  public static let pageByteCount: UInt64 = 4096
  /// The most runs that are kept before they have to be drained.
  public static let mostRuns = 65_536

  private struct Run {
    var first: UInt32
    var last: UInt32
  }

  /// The runs that a later frame did not continue, in the order of their coming.
  private var runs: [Run] = []
  /// The run that the next frame may continue.
  private var open: Run?
  private var isRising = true
  private var isFalling = true

  public init() {}

  /// Whether the next frame may find no room: drain first.
  public var isFull: Bool { runs.count >= Self.mostRuns }

  /// Takes the page that starts at 4096 · `frame`; again, if it was taken before.
  public mutating func insert(frame: UInt32) {
    guard let run = open else {
      open = Run(first: frame, last: frame)
      return
    }
    if frame >= run.first, frame <= run.last { return }
    if frame > run.last, frame - run.last == 1 {
      open?.last = frame
    } else if frame < run.first, run.first - frame == 1 {
      open?.first = frame
    } else {
      close(run)
      open = Run(first: frame, last: frame)
    }
  }

  /// Appends what was inserted as ranges in rising order that neither touch nor overlap, and starts anew.
  public mutating func drain(into ranges: inout [GuestRange]) {
    if let open { close(open) }
    sort()
    var merged: Run?
    for run in runs {
      guard let previous = merged else {
        merged = run
        continue
      }
      if UInt64(run.first) <= UInt64(previous.last) + 1 {
        merged?.last = max(previous.last, run.last)
      } else {
        ranges.append(Self.range(previous))
        merged = run
      }
    }
    if let merged { ranges.append(Self.range(merged)) }
    removeAll()
  }

  /// Forgets what was inserted, as when a request broke off.
  public mutating func removeAll() {
    runs.removeAll(keepingCapacity: true)
    open = nil
    isRising = true
    isFalling = true
  }

  private mutating func close(_ run: Run) {
    if let previous = runs.last {
      if run.first < previous.first { isRising = false } else { isFalling = false }
    }
    runs.append(run)
  }

  private static func range(_ run: Run) -> GuestRange {
    GuestRange(
      start: GuestAddress(UInt64(run.first) * pageByteCount),
      byteCount: (UInt64(run.last - run.first) + 1) * pageByteCount)
  }
}

extension PageRuns {
  private mutating func sort() {
    if isRising { return }
    if isFalling { return runs.reverse() }
    heapSort()
  }

  /// In place, since the library's sort allocates, and in bounded time whatever order a driver chooses.
  private mutating func heapSort() {
    for root in stride(from: runs.count / 2 - 1, through: 0, by: -1) { sink(root, within: runs.count) }
    for end in stride(from: runs.count - 1, to: 0, by: -1) {
      runs.swapAt(0, end)
      sink(0, within: end)
    }
  }

  private mutating func sink(_ root: Int, within end: Int) {
    var parent = root
    while 2 * parent + 1 < end {
      var child = 2 * parent + 1
      if child + 1 < end, runs[child].first < runs[child + 1].first { child += 1 }
      guard runs[parent].first < runs[child].first else { return }
      runs.swapAt(parent, child)
      parent = child
    }
  }
}
