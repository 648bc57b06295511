/// What a page of guest memory is used for, as the guest's page table says: a byte a page.
public enum PageKind: UInt8, CaseIterable, Sendable {
  /// Free, with what was last written still in it: its host memory is occupied.
  case free = 0
  /// Free, and reported to the device as such (5.5.6.7).
  case reported = 1
  /// Free, and never written since the guest booted.
  case untouched = 2
  /// The boot block, the tables, rings and buffers of drivers.
  case kernel = 4
  /// A page of the RAM disk, which is never dropped.
  case disk = 5
  /// A page of a file, which can be read again.
  case cache = 6
  /// The working set of the dirtying workload.
  case workingSet = 7
  /// What the pressure workload has allocated.
  case anonymous = 8
  /// In the balloon.
  case balloon = 9
  /// Taken out of the balloon; the device has not yet been told, or has not yet answered.
  case deflating = 10
  /// Hinted to the device as free, and kept unused (5.5.6.5).
  case hinted = 11
  /// Being reported to the device as free (5.5.6.7).
  case reporting = 12

  /// A byte is a free kind exactly when no bit of this mask is set.
  static let notFreeMask: UInt8 = 0xFC
  /// What stands in the table behind the last page.
  static let beyondEnd: UInt8 = 0xFF

  /// Whether the allocator may hand the page out.
  public var isFree: Bool { rawValue & Self.notFreeMask == 0 }
}
