/// Why the balloon cannot do what its operator asks.
public enum BalloonError: Error, Equatable, Sendable {
  /// The guest is to have more memory than it was given.
  case targetAboveMemory(target: UInt64, memory: UInt64)
  /// The guest is to have less than a page.
  case targetTooSmall(target: UInt64)
  /// Target and memory do not differ by whole pages of 4096 bytes.
  case notWholePages(target: UInt64, memory: UInt64)
  /// The balloon would hold more pages than 32 bits count.
  case balloonTooLarge(byteCount: UInt64)
  /// The driver did not accept `VIRTIO_BALLOON_F_FREE_PAGE_HINT`, or there is no driver yet.
  case hintingNotNegotiated
}

extension BalloonError: CustomStringConvertible {
  public var description: String {
    switch self {
    case .targetAboveMemory(let target, let memory):
      "a target of \(target) bytes is above the guest's memory of \(memory) bytes"
    case .targetTooSmall(let target): "a target of \(target) bytes leaves the guest less than a page"
    case .notWholePages(let target, let memory):
      "a target of \(target) bytes is not a whole number of 4096-byte pages below \(memory) bytes"
    case .balloonTooLarge(let byteCount): "a balloon of \(byteCount) bytes has more pages than 32 bits count"
    case .hintingNotNegotiated: "the driver does not hint at free pages"
    }
  }
}
