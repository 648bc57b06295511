public import GuestRAM
public import Virtqueue

extension RingFixture {
  /// What a transport would tell the device of this ring.
  public func configuration(nextAvailable: UInt16? = nil, mark: GuestAddress? = nil) throws -> QueueConfiguration {
    QueueConfiguration(
      size: size, descriptorTable: descriptorTable, availableRing: availableRing, usedRing: usedRing,
      nextAvailable: try nextAvailable ?? publishedUsedIndex, usedRingMark: mark)
  }

  /// A device's queue upon this ring, which goes on from the used index unless told otherwise.
  public func queue(
    _ features: RingFeatures = RingFeatures(), nextAvailable: UInt16? = nil
  ) throws -> SplitVirtqueue {
    try SplitVirtqueue(configuration(nextAvailable: nextAvailable), features: features, memory: memory)
  }
}
