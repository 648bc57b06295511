public import GuestRAM

/// What a driver and its transport say of a virtqueue before it starts.
public struct QueueConfiguration: Equatable, Sendable {
  /// Queue Size: the number of descriptors, a power of two up to 32768.
  public var size: UInt16
  /// The Descriptor Area: a multiple of 16.
  public var descriptorTable: GuestAddress
  /// The Driver Area: a multiple of 2.
  public var availableRing: GuestAddress
  /// The Device Area: a multiple of 4.
  public var usedRing: GuestAddress
  /// The available index of the first buffer to take: 0, or where an earlier device stopped.
  public var nextAvailable: UInt16
  /// Where stores to the used ring are marked in a dirty log, when not at `usedRing`.
  public var usedRingMark: GuestAddress?
  /// Whether stores to the used ring are marked at all: a vhost-user front-end may see to its rings itself.
  public var isUsedRingMarked: Bool
  /// Where to keep, for a successor, which chains are in flight; nil to keep it nowhere. It decides what the queue goes on
  /// from, and not `nextAvailable`.
  public var inflight: InflightArea?

  public init(
    size: UInt16, descriptorTable: GuestAddress, availableRing: GuestAddress, usedRing: GuestAddress,
    nextAvailable: UInt16 = 0, usedRingMark: GuestAddress? = nil, isUsedRingMarked: Bool = true,
    inflight: InflightArea? = nil
  ) {
    self.size = size
    self.descriptorTable = descriptorTable
    self.availableRing = availableRing
    self.usedRing = usedRing
    self.nextAvailable = nextAvailable
    self.usedRingMark = usedRingMark
    self.isUsedRingMarked = isUsedRingMarked
    self.inflight = inflight
  }
}

/// The negotiated features that change how a ring works.
public struct RingFeatures: Equatable, Sendable {
  /// `VIRTIO_F_INDIRECT_DESC` (2.7.5.3).
  public var indirectDescriptors: Bool
  /// `VIRTIO_F_EVENT_IDX` (2.7.7, 2.7.10).
  public var eventIndex: Bool
  /// `VIRTIO_F_IN_ORDER` (2.7.9).
  public var inOrder: Bool

  public init(indirectDescriptors: Bool = false, eventIndex: Bool = false, inOrder: Bool = false) {
    self.indirectDescriptors = indirectDescriptors
    self.eventIndex = eventIndex
    self.inOrder = inOrder
  }
}
