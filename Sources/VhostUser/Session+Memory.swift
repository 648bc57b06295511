import GuestRAM
import LinuxIO
import VirtioCore

/// The guest's memory, and the log of what is written to it.
extension Session where Device: ~Copyable {
  /// Maps a new table in place of the one before; running rings go on in it.
  func setMemoryTable(_ message: inout Message) throws(VhostUserError) -> Outcome {
    let regions = try message.memoryRegions()
    guard regions.count == message.descriptors.count else {
      throw .wrongDescriptorCount(
        request: message.request, count: message.descriptors.count, expected: regions.count...regions.count)
    }
    // Its rings may be overwritten by now, and must not be opened in the new table.
    if isDriverInDoubt { try forgetDriver() }
    return try take(MemoryTable(regions, files: &message.descriptors), 0..<regions.count, payload: message.payload)
  }

  func addRegion(_ message: inout Message) throws(VhostUserError) -> Outcome {
    let region = try message.memoryRegion()
    guard let known = newestTable else {
      return try take(MemoryTable([region], files: &message.descriptors), 0..<1, payload: message.payload)
    }
    let (table, place) = try known.adding(region, files: &message.descriptors)
    return try take(table, place..<place + 1, knownCount: known.regionCount, payload: message.payload)
  }

  /// Unmaps a region. A ring in it rests until its memory is there again.
  func removeRegion(_ message: borrowing Message) throws(VhostUserError) -> Outcome {
    let region = try message.memoryRegion()
    guard let table = newestTable else { throw .noMemoryTable }
    let rest = try table.removing(region)
    guard let postcopy, postcopy.isListening else {
      try use(rest)
      return .done
    }
    return arrive(rest, at: postcopy)
  }

  /// Uses a table, or in a postcopy migration tells where the regions at some places of it are.
  private func take(
    _ table: MemoryTable, _ places: Range<Int>, knownCount: Int = 0, payload: [UInt8]
  ) throws(VhostUserError) -> Outcome {
    guard let postcopy, postcopy.isListening else {
      if table.regionCount > knownCount { try use(table) } else { self.table = table }
      return .done
    }
    let new = table.mappedRegions(knownCount..<table.regionCount)
    try system { () throws(LinuxError) in try postcopy.provider.awaitPages(of: new) }
    _ = arrive(table, at: postcopy)
    let told = table.placesHere(places).flatMap(\.encoded)
    // The message, with our addresses in place of the front-end's; it may have room for more regions than it has.
    return .reply(Array(payload.prefix(8)) + told + payload.dropFirst(8 + told.count))
  }

  func use(_ table: MemoryTable?) throws(VhostUserError) {
    for ring in rings where !ring.isPlaced(in: table) { try close(ring) }
    self.table = table
    if table != nil { return try attachMemory() }
    device.memory = nil
    try host { () throws(HostError) in try device.host.detachMemory() }
  }

  /// Gives the device the memory of the table, with the log when one is to be kept.
  private func attachMemory() throws(VhostUserError) {
    guard let table else { return }
    let log = isLogging ? log : nil
    let memory = try guestMemory { () throws(GuestMemoryError) in try table.memory.with(dirtyLog: log) }
    try host { () throws(HostError) in try device.host.attach(memory) }
    device.memory = memory
    report(.attached(memory))
  }
}

/// The log of pages that the device has written, which the front-end reads while the guest is on its way elsewhere.
extension Session where Device: ~Copyable {
  /// Takes over a log in place of the one before, which is written no more once this is answered.
  func setLog(_ message: inout Message) throws(VhostUserError) {
    let place = try message.logPlace()
    guard let file = message.descriptors.takeFirst() else { return }
    log = try guestMemory { () throws(GuestMemoryError) in
      let log = try DirtyLog(file: file, at: place.fileOffset, byteCount: place.byteCount)
      _ = try table?.memory.with(dirtyLog: log)
      return log
    }
    if isLogging { try attachMemory() }
  }

  /// Starts or stops to keep the log: `VHOST_F_LOG_ALL`.
  func setLogging(_ isLogging: Bool) throws(VhostUserError) {
    guard isLogging != self.isLogging else { return }
    self.isLogging = isLogging
    if log != nil { try attachMemory() }
  }
}
