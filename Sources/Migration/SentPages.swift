public import GuestRAM
import LinuxIO

/// The digest of what was sent last of each page: finds writes where the kernel cannot tell of them, such as those of
/// another process.
///
/// A page was written if it holds something else than what the destination got. That cannot be said of what it held when
/// it was last looked at: a page that changes between the look and the sending, and then back, would count as unchanged
/// while the destination has what was there in between. So the engine notes what goes, as it goes.
///
/// Each question reads all memory that is there, at several GB/s, and each page costs 8 bytes here. Two pages with the same
/// digest of 64 bits would be taken for the same; that does not happen by chance, but a guest that sets out to confuse
/// its own copy could make it happen.
public final class SentPages {
  private static let zeroDigest = GuestMemory.digest(of: [UInt8](repeating: 0, count: Int(GuestPage.byteCount)))
  /// So much is looked at a time, so that little is given back to the host between asking what is there and reading it.
  private static let stepByteCount: UInt64 = 16 << 20

  private let memory: GuestMemory
  /// Of each region the digests of its pages.
  private var digests: [[UInt64]]
  /// Before anything has been sent, what was seen last stands for it.
  private var isSending = false
  /// How long the last look took, in seconds.
  public private(set) var lookSeconds = 0.0

  /// - Parameter memory: what is moved, of whole 4 KiB pages.
  public init(_ memory: GuestMemory) {
    self.memory = memory
    digests = memory.regions.map {
      [UInt64](repeating: Self.zeroDigest, count: Int($0.range.byteCount / GuestPage.byteCount))
    }
  }

  /// The pages that hold something else than what was sent of them; before that is anything, than when this was asked last.
  ///
  /// What was given back to the host, or never used, holds zeros and is not read.
  public func takeWrites() throws(MigrationError) -> [GuestRange] {
    let start = MonotonicClock.now
    defer { lookSeconds = MigrationReport.seconds(since: start) }
    var writes: [GuestRange] = []
    for (region, place) in memory.regions.enumerated() {
      for offset in stride(from: 0, to: place.range.byteCount, by: Int(Self.stepByteCount)) {
        let start = GuestAddress(place.range.start.rawValue + offset)
        let step = GuestRange(start: start, byteCount: min(Self.stepByteCount, place.range.byteCount - offset))
        compare(try found(in: step), with: region, at: Int(offset / GuestPage.byteCount), step.start, &writes)
      }
    }
    return writes
  }

  /// The digests of all pages of a part.
  private func found(in part: GuestRange) throws(MigrationError) -> [UInt64] {
    var found: [UInt64] = []
    found.reserveCapacity(Int(part.byteCount / GuestPage.byteCount))
    for piece in [part].pieces(resident: try memory.residentPages(in: part)) {
      if piece.isResident {
        try inGuestMemory { () throws(GuestMemoryError) in
          try memory.appendPageDigests(of: piece.range, to: &found)
        }
      } else {
        found.append(
          contentsOf: repeatElement(Self.zeroDigest, count: Int(piece.range.byteCount / GuestPage.byteCount)))
      }
    }
    return found
  }

  private func compare(
    _ found: [UInt64], with region: Int, at first: Int, _ start: GuestAddress, _ writes: inout [GuestRange]
  ) {
    var runStart: Int?
    func close(at page: Int) {
      guard let first = runStart else { return }
      let address = GuestAddress(start.rawValue + UInt64(first) * GuestPage.byteCount)
      writes.append(GuestRange(start: address, byteCount: UInt64(page - first) * GuestPage.byteCount))
      runStart = nil
    }
    for (page, digest) in found.enumerated() {
      if digest == digests[region][first + page] {
        close(at: page)
      } else {
        runStart = runStart ?? page
        if !isSending { digests[region][first + page] = digest }
      }
    }
    close(at: found.count)
  }
}

// MARK: - What the engine notes

extension SentPages {
  /// From now on pages are sent, to somebody who has zeros everywhere.
  func beginSending() {
    isSending = true
    for region in digests.indices {
      digests[region] = [UInt64](repeating: Self.zeroDigest, count: digests[region].count)
    }
  }

  /// These pages go as what has these digests.
  func note(_ sent: [UInt64], of runs: [PageRun]) {
    var next = 0
    for run in runs {
      note(run) { (pages, region) in
        for page in pages {
          // One that was planned as data and is zero by now has memory there, which it is to lose: it counts as written.
          digests[region][page] = sent[next] == Self.zeroDigest ? ~Self.zeroDigest : sent[next]
          next += 1
        }
      }
    }
  }

  /// These pages go as zeros.
  func noteZeros(_ run: PageRun) {
    note(run) { (pages, region) in for page in pages { digests[region][page] = Self.zeroDigest } }
  }

  private func note(_ run: PageRun, _ body: (_ pages: Range<Int>, _ region: Int) -> Void) {
    guard let region = memory.regions.firstIndex(where: { $0.range.overlap(run.range) == run.range }) else { return }
    let first = Int((run.start.rawValue - memory.regions[region].range.start.rawValue) / GuestPage.byteCount)
    body(first..<first + Int(run.pageCount), region)
  }
}
