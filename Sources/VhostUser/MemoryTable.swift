import GuestRAM
import LinuxIO

/// The guest's memory as the front-end describes it: mapped here, and known by two addresses.
struct MemoryTable {
  /// The most regions that one message may list.
  static let mostRegions = 32

  let memory: GuestMemory
  private let regions: [RegionPayload]

  /// Maps each region's file from its start.
  /// - Parameter files: one descriptor for each region, in the same order.
  init(_ regions: [RegionPayload], files: inout DescriptorList) throws(VhostUserError) {
    var mapped: [MemoryRegion] = []
    for region in regions {
      guard !region.userAddress.addingReportingOverflow(region.byteCount).overflow else {
        throw .regionEndless(userAddress: region.userAddress, byteCount: region.byteCount)
      }
      guard let file = files.takeFirst() else { break }
      do throws(GuestMemoryError) {
        mapped.append(
          try MemoryRegion(
            file: file, at: region.fileOffset, byteCount: region.byteCount, start: GuestAddress(region.guestAddress)))
      } catch {
        throw .memory(error)
      }
    }
    do throws(GuestMemoryError) { memory = try GuestMemory(regions: mapped) } catch { throw .memory(error) }
    self.regions = regions
  }

  /// The guest address of what the front-end's process sees at `userAddress`.
  func guestAddress(of userAddress: UInt64) throws(VhostUserError) -> GuestAddress {
    for region in regions where userAddress &- region.userAddress < region.byteCount {
      // Neither sum can overflow: both ends of the region were checked.
      return GuestAddress(region.guestAddress + (userAddress - region.userAddress))
    }
    throw .notInMemoryTable(userAddress: userAddress)
  }
}
