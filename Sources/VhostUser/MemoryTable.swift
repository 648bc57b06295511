import GuestRAM
import LinuxIO

/// The guest's memory as the front-end describes it: mapped here, and known by two addresses.
struct MemoryTable {
  /// The most regions that one message may list.
  static let mostRegions = 32
  /// The most regions that may be added one by one.
  static let mostSlots = 509

  let memory: GuestMemory
  private var regions: [Region]

  private struct Region {
    let description: RegionPayload
    let mapped: MemoryRegion
    let file: FileStatus.Identity
    /// How often it was added and not removed.
    var additionCount = 1
  }

  private init(_ regions: [Region]) throws(VhostUserError) {
    self.regions = regions
    memory = try guestMemory { () throws(GuestMemoryError) in try GuestMemory(regions: regions.map(\.mapped)) }
  }

  /// Maps each region's file from its start.
  /// - Parameter files: one descriptor for each region, in the same order.
  init(_ descriptions: [RegionPayload], files: inout DescriptorList) throws(VhostUserError) {
    var regions: [Region] = []
    for description in descriptions { regions.append(try Self.map(description, &files)) }
    try self.init(regions)
  }

  /// The table with one region more, whose descriptor is the next of `files`, or with a region that it has already: QEMU
  /// before 8.0 adds and removes each region once for every pair of queues of a network card.
  ///
  /// - Returns: the table, and the place of the region in it.
  func adding(
    _ description: RegionPayload, files: inout DescriptorList
  ) throws(VhostUserError) -> (table: MemoryTable, place: Int) {
    if let place = regions.firstIndex(where: { $0.description == description }), let file = files.takeFirst() {
      guard try identity(of: file) == regions[place].file else {
        throw .otherFile(guestAddress: description.guestAddress)
      }
      var table = self
      table.regions[place].additionCount += 1
      return (table, place)
    }
    guard regions.count < Self.mostSlots else {
      throw .wrongRegionCount(UInt32(regions.count + 1), most: Self.mostSlots)
    }
    return (try MemoryTable(regions + [Self.map(description, &files)]), regions.count)
  }

  /// The table without a region that was removed as often as it was added; nil when it was the last.
  func removing(_ description: RegionPayload) throws(VhostUserError) -> MemoryTable? {
    guard let place = regions.firstIndex(where: { $0.description.namesSame(as: description) }) else {
      throw .noSuchRegion(guestAddress: description.guestAddress, byteCount: description.byteCount)
    }
    var rest = self
    rest.regions[place].additionCount -= 1
    guard rest.regions[place].additionCount == 0 else { return rest }
    rest.regions.remove(at: place)
    return rest.regions.isEmpty ? nil : try MemoryTable(rest.regions)
  }

  /// The descriptions of regions, with the addresses that they have in this process.
  func placesHere(_ places: Range<Int>) -> [RegionPayload] {
    regions[places].map { region in
      RegionPayload(
        guestAddress: region.description.guestAddress, byteCount: region.description.byteCount,
        userAddress: region.mapped.hostAddress, fileOffset: region.description.fileOffset)
    }
  }

  /// Regions as they are mapped.
  func mappedRegions(_ places: Range<Int>) -> [MemoryRegion] {
    regions[places].map(\.mapped)
  }

  var regionCount: Int { regions.count }

  /// The guest address of what the front-end's process sees at `userAddress`.
  func guestAddress(of userAddress: UInt64) throws(VhostUserError) -> GuestAddress {
    guard let region = region(of: userAddress) else { throw .notInMemoryTable(userAddress: userAddress) }
    // Neither sum can overflow: both ends of the region were checked.
    return GuestAddress(region.guestAddress + (userAddress - region.userAddress))
  }

  /// Whether a ring that the front-end's process sees at these addresses is in the table.
  func contains(_ addresses: VringAddresses) -> Bool {
    [addresses.descriptorTable, addresses.availableRing, addresses.usedRing].allSatisfy { region(of: $0) != nil }
  }

  private func region(of userAddress: UInt64) -> RegionPayload? {
    regions.first { userAddress &- $0.description.userAddress < $0.description.byteCount }?.description
  }

  private static func map(
    _ description: RegionPayload, _ files: inout DescriptorList
  ) throws(VhostUserError) -> Region {
    guard !description.userAddress.addingReportingOverflow(description.byteCount).overflow else {
      throw .regionEndless(userAddress: description.userAddress, byteCount: description.byteCount)
    }
    guard let file = files.takeFirst() else { preconditionFailure("descriptors are counted before they are taken") }
    let identity = try identity(of: file)
    let mapped: MemoryRegion
    do throws(GuestMemoryError) {
      mapped = try MemoryRegion(
        file: file, at: description.fileOffset, byteCount: description.byteCount,
        start: GuestAddress(description.guestAddress))
    } catch {
      throw .memory(error)
    }
    return Region(description: description, mapped: mapped, file: identity)
  }
}

private func identity(of file: borrowing FileDescriptor) throws(VhostUserError) -> FileStatus.Identity {
  do throws(LinuxError) { return try file.status.identity } catch { throw .system(error) }
}
