import GuestRAM
import LinuxIO

/// The files that a guest's memory is in, and where in them.
struct MemoryFiles: ~Copyable {
  /// The most files of a guest: what goes in one message.
  static let most = UnixSocket.largestDescriptorCount
  static let mostPayload = 1 << 13

  /// Where a region is.
  struct Place: Equatable {
    /// Which of the files.
    var file: Int
    /// The bytes of the file before the region.
    var offset: UInt64
  }

  /// Each file once.
  var descriptors: DescriptorList
  /// In the order of the regions.
  let places: [Place]

  /// The files of a guest's memory.
  /// - Throws: `cannotHandOver` for memory that another process cannot share, or that could be taken from under it.
  init(of memory: GuestMemory) throws(MigrationError) {
    var descriptors = DescriptorList()
    var places: [Place] = []
    var known: [FileStatus.Identity: Int] = [:]
    for region in memory.regions {
      let file = try connecting { () throws(LinuxError) in try region.duplicateFile() }
      guard let file else {
        throw .cannotHandOver("\(region.range) is memory of this process alone; it takes a memory file")
      }
      let identity = try connecting { () throws(LinuxError) in try file.status.identity }
      if known[identity] == nil {
        if let fault = try Self.fault(of: file) { throw .cannotHandOver("the file of \(region.range) \(fault)") }
        known[identity] = known.count
        descriptors.append(file)
      }
      places.append(Place(file: known[identity] ?? 0, offset: region.fileOffset))
    }
    guard known.count <= Self.most else { throw .cannotHandOver("it is in more than \(Self.most) files") }
    self.descriptors = descriptors
    self.places = places
  }

  /// What came with a frame of files.
  init(_ received: consuming UnixSocket.Received, regionCount: Int) throws(MigrationError) {
    places = try Self.places(received.bytes, fileCount: received.descriptors.count, regionCount: regionCount)
    descriptors = received.descriptors
  }

  /// Why a file cannot be shared as memory; nil when it can.
  ///
  /// From then on it cannot be made shorter, so that nobody who maps it can meet a signal where there was memory.
  private static func fault(of file: borrowing FileDescriptor) throws(MigrationError) -> String? {
    do throws(LinuxError) {
      let status = try file.status
      guard status.kind == .regularFile, status.isInMemory else { return "is not in memory" }
      guard try file.access == .readingAndWriting else { return "is not open for reading and writing" }
      return try file.forbidShrinking() ? nil : "cannot be sealed, so that it could be made shorter"
    } catch {
      throw MigrationError(error)
    }
  }
}

// MARK: - The frame

extension MemoryFiles {
  /// How many files there are, then of each region its file and the place in it.
  var payload: [UInt8] {
    var writer = WireWriter()
    writer.append(UInt16(descriptors.count))
    for place in places {
      writer.append(UInt16(place.file))
      writer.append(place.offset)
    }
    return writer.bytes
  }

  private static func places(
    _ payload: [UInt8], fileCount: Int, regionCount: Int
  ) throws(MigrationError) -> [Place] {
    var reader = WireReader(payload)
    guard let announced: UInt16 = reader.integer() else { throw .malformedFrame(.files) }
    guard Int(announced) == fileCount else {
      throw .unusableFiles("\(announced) are announced and \(fileCount) came")
    }
    var places: [Place] = []
    for _ in 0..<regionCount {
      guard let file: UInt16 = reader.integer(), file < announced, let offset: UInt64 = reader.integer() else {
        throw .malformedFrame(.files)
      }
      places.append(Place(file: Int(file), offset: offset))
    }
    guard reader.remainingCount == 0 else { throw .malformedFrame(.files) }
    return places
  }
}

// MARK: - The memory

extension MemoryFiles {
  /// The guest's memory in these files, of which nothing is touched.
  consuming func map(_ regions: [GuestRange]) throws(MigrationError) -> GuestMemory {
    var made: [MemoryRegion?] = Array(repeating: nil, count: regions.count)
    var index = 0
    while let file = descriptors.takeFirst() {
      // Sealed first and measured after: the other way round it could become shorter in between.
      if let fault = try Self.fault(of: file) { throw .unusableFiles("number \(index) \(fault)") }
      for (number, place) in places.enumerated() where place.file == index {
        let range = regions[number]
        made[number] = try inGuestMemory { () throws(GuestMemoryError) in
          let copy = try duplicate(of: file)
          return try MemoryRegion(file: copy, at: place.offset, byteCount: range.byteCount, start: range.start)
        }
      }
      index += 1
    }
    let whole = made.compactMap(\.self)
    return try inGuestMemory { () throws(GuestMemoryError) in try GuestMemory(regions: whole) }
  }
}

private func duplicate(of file: borrowing FileDescriptor) throws(GuestMemoryError) -> FileDescriptor {
  do throws(LinuxError) { return try file.duplicate() } catch { throw .system(error) }
}
