import GuestRAM

/// Taking back what the driver has not seen yet.
extension SplitVirtqueue {
  /// A moment of a queue to which it can be taken back.
  public struct Mark {
    let takeIndex: UInt16
    let giveIndex: UInt16
    let runStart: UInt16
    /// The element of the run that had begun.
    let element: (UInt32, UInt32)
  }

  /// This moment.
  public var mark: Mark {
    let element = runStart == giveIndex ? (0, 0) : used.load(at: runStart)
    return Mark(takeIndex: takeIndex, giveIndex: giveIndex, runStart: runStart, element: element)
  }

  /// Puts all chains back that were taken since a moment: `next` will return them again.
  ///
  /// Each of them has been completed, and nothing else has, and nothing has been published since.
  public mutating func rewind(to mark: Mark) {
    let count = takeIndex &- mark.takeIndex
    precondition(count == giveIndex &- mark.giveIndex, "chains are put back that were not given back, or the reverse")
    precondition(giveIndex &- publishedUsed >= count, "chains are put back that the driver has seen")
    takeIndex = mark.takeIndex
    giveIndex = mark.giveIndex
    runStart = mark.runStart
    if runStart != giveIndex { used.store(mark.element.0, mark.element.1, at: runStart) }
    guard let tracker else { return }
    for _ in 0..<count { tracker.takeBack() }
    // Each is noted anew when it is taken again.
    readyAvailable = nextAvailable
  }
}
