public import VirtioCore
import Virtqueue

/// The feature bits of the balloon (5.5.3).
extension Feature {
  /// `VIRTIO_BALLOON_F_MUST_TELL_HOST`: the driver asks before it uses pages of the balloon.
  public static let mustTellHost = Feature(rawValue: 0)
  /// `VIRTIO_BALLOON_F_STATS_VQ`
  public static let statisticsQueue = Feature(rawValue: 1)
  /// `VIRTIO_BALLOON_F_DEFLATE_ON_OOM`
  public static let deflateOnOutOfMemory = Feature(rawValue: 2)
  /// `VIRTIO_BALLOON_F_FREE_PAGE_HINT`
  public static let freePageHint = Feature(rawValue: 3)
  /// `VIRTIO_BALLOON_F_PAGE_POISON`
  public static let pagePoison = Feature(rawValue: 4)
  /// `VIRTIO_BALLOON_F_PAGE_REPORTING`
  public static let pageReporting = Feature(rawValue: 5)

  /// The names of the features that the device may have, by bit, without `VIRTIO_BALLOON_F_`; those too that are not offered here.
  public static let balloonNames: [Int: String] = [
    0: "MUST_TELL_HOST", 1: "STATS_VQ", 2: "DEFLATE_ON_OOM", 3: "FREE_PAGE_HINT", 4: "PAGE_POISON",
    5: "PAGE_REPORTING",
  ]
}

/// What a balloon offers its driver.
public struct BalloonOptions: Equatable, Sendable {
  /// Hold the driver to asking before it uses pages again. Without it, host pages larger than 4 KiB go back only when
  /// one request names all of one.
  public var mustTellHost = true
  /// Let the guest take pages back by itself when it runs out of memory.
  public var deflateOnOutOfMemory = false
  /// Take statistics. Both queue numberings agree as long as this is offered and accepted.
  public var statistics = true
  /// Take hints of free pages while a migration copies memory.
  public var freePageHint = true
  /// Let a guest that fills its free pages say so. Without it, a Linux guest that does so leaves out reporting.
  public var pagePoison = true
  /// Take reports of free pages at any time.
  public var pageReporting = true
  /// How the queues are numbered; a numbering that came with an adopted state stays instead.
  public var numbering = BalloonQueues.Numbering.consecutive
  /// Raises the largest size of each queue to at least this. A vhost-user front-end does not ask for it before it
  /// sets a queue up: User-Mode Linux makes all of 256.
  public var leastQueueSize: UInt16 = 32

  public init() {}

  var features: Features {
    var features: Features = []
    if mustTellHost { features.insert(.mustTellHost) }
    if statistics { features.insert(.statisticsQueue) }
    if deflateOnOutOfMemory { features.insert(.deflateOnOutOfMemory) }
    if freePageHint { features.insert(.freePageHint) }
    if pagePoison { features.insert(.pagePoison) }
    if pageReporting { features.insert(.pageReporting) }
    return features
  }

  /// The sizes by fixed number. In any other numbering a queue only moves to a place with at least 32 entries.
  var queueSizes: [UInt16] {
    BalloonQueues.Role.allCases.map { Self.legal(max($0.queueSize, leastQueueSize)) }
  }

  /// The next power of two, as far as queues go.
  private static func legal(_ size: UInt16) -> UInt16 {
    var legal: UInt16 = 1
    while legal < size, legal < RingLayout.mostEntries { legal *= 2 }
    return legal
  }
}
