import LinuxIO
import Synchronization

/// Memory of a file that nobody has used yet.
///
/// To protect it the kernel would make page tables for all of it, and look through them whenever it is asked what was
/// written. Nothing in it was written as long as the file has no page there, which the file tells at once. So a stretch is
/// protected once it has one.
extension TrackedRegion {
  /// What one page table maps.
  static let stretchByteCount = 512 * pageByteCount

  /// Looks where the file has nothing. Other memory counts as used, and so do huge pages: what they have is not told as
  /// readily.
  func findEmpty() throws(LinuxError) {
    guard region.file != nil, region.backingPageByteCount == Self.pageByteCount else { return }
    noteEmpty(bytes)
    var next = bytes.lowerBound
    while let stretch = try nextStretchInUse(in: next..<bytes.upperBound) {
      noteUsed(stretch)
      next = stretch.upperBound
    }
  }

  /// The first of some bytes, as far as all of them are in stretches that have been empty or none is.
  func nextPart(of part: Range<Int>) -> (bytes: Range<Int>, isEmpty: Bool) {
    let first = stretch(of: part.lowerBound)
    let most = stretch(of: part.upperBound - 1) - first + 1
    guard let run = empty.withLock({ $0.run(from: first, upTo: most) }) else { return (part, false) }
    let isEmpty = run.lowerBound == first
    let end = bytes.lowerBound + (isEmpty ? run.upperBound : run.lowerBound) * Self.stretchByteCount
    return (part.lowerBound..<min(end, part.upperBound), isEmpty)
  }

  /// The bytes of the first stretch in which the file has something; nil when it has nothing there.
  func nextStretchInUse(in part: Range<Int>) throws(LinuxError) -> Range<Int>? {
    // The file is mapped from its start.
    guard !part.isEmpty, let data = try region.file?.descriptor.nextData(from: part.lowerBound), data < part.upperBound
    else { return nil }
    let start = bytes.lowerBound + stretch(of: data) * Self.stretchByteCount
    return (start..<start + Self.stretchByteCount).clamped(to: part)
  }

  /// Whether these bytes of one stretch are all that is tracked of it.
  func isWholeStretch(_ part: Range<Int>) -> Bool {
    let start = bytes.lowerBound + stretch(of: part.lowerBound) * Self.stretchByteCount
    return part == (start..<start + Self.stretchByteCount).clamped(to: bytes)
  }

  /// Hands out the pages of a stretch that the file has.
  ///
  /// Where data ends is not asked: for that the kernel looks at all of the data that follows, which may be the whole file.
  func forEachRunInUse(of stretch: Range<Int>, _ body: (Range<Int>) -> Void) throws(LinuxError) {
    var run = stretch.lowerBound..<stretch.lowerBound
    var next = stretch.lowerBound
    while next < stretch.upperBound, let data = try region.file?.descriptor.nextData(from: next),
      data < stretch.upperBound
    {
      if data > run.upperBound {
        if !run.isEmpty { body(run) }
        run = data..<data
      }
      next = data + Self.pageByteCount
      run = run.lowerBound..<next
    }
    if !run.isEmpty { body(run) }
  }

  /// From now on the stretches that these bytes are in are protected, or found as written.
  func noteUsed(_ part: Range<Int>) {
    let stretches = stretch(of: part.lowerBound)..<stretch(of: part.upperBound - 1) + 1
    empty.withLock { $0.remove(stretches) }
  }

  private func noteEmpty(_ part: Range<Int>) {
    let stretches = stretch(of: part.lowerBound)..<stretch(of: part.upperBound - 1) + 1
    empty.withLock { $0.insert(stretches) }
  }

  private func stretch(of byte: Int) -> Int { (byte - bytes.lowerBound) / Self.stretchByteCount }
}
