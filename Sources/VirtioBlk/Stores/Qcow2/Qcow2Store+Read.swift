import Synchronization

extension Qcow2Store {
  /// Reads the disk from `place` on, which may end earlier than the image has room for.
  /// - Returns: false when that would have to wait and may not.
  func read<Target: ReadTarget & ~Copyable>(
    _ part: Range<Int>, of target: inout Target, at place: UInt64, mayWait: Bool
  ) throws(StoreError) -> Bool {
    var done = 0
    while done < part.count {
      let here = place + UInt64(done)
      guard let (extent, operation) = try begin(at: here, most: part.count - done, isWrite: false, mayWait: mayWait)
      else { return false }
      defer { end(operation) }
      let piece = part.lowerBound + done..<part.lowerBound + done + extent.byteCount
      guard try read(extent, piece, of: &target, at: here, mayWait: mayWait) else { return false }
      done += extent.byteCount
    }
    return true
  }

  private func read<Target: ReadTarget & ~Copyable>(
    _ extent: Qcow2Extent, _ part: Range<Int>, of target: inout Target, at place: UInt64, mayWait: Bool
  ) throws(StoreError) -> Bool {
    switch extent.source {
    case .zeros: try target.zero(part)
    case .host(let offset): return try target.read(part, from: file, at: offset, mayWait: mayWait)
    case .nothing:
      guard let backing else {
        try target.zero(part)
        return true
      }
      return try backing.read(part, of: &target, at: place, mayWait: mayWait)
    case .compressed(let offset, let byteCount):
      guard mayWait else { return false }
      let start = Int(place & layout.clusterMask)
      let cluster = try expand(at: offset, byteCount: byteCount)
      try target.store(Array(cluster[start..<start + part.count]), at: part.lowerBound)
    }
    return true
  }

  /// A compressed cluster's bytes.
  private func expand(at offset: UInt64, byteCount: Int) throws(StoreError) -> [UInt8] {
    let source = try file.bytes(at: offset, count: byteCount)
    guard let cluster = Inflate.expand(source, byteCount: layout.clusterByteCount) else {
      throw .corrupt(.compressedData(offset))
    }
    return cluster
  }

  // MARK: - Looking up

  /// Finds where a part of the disk is, and keeps it from being given to anybody else until `end`.
  func begin(
    at place: UInt64, most: Int, isWrite: Bool, mayWait: Bool
  ) throws(StoreError) -> (extent: Qcow2Extent, operation: UInt64)? {
    // Somebody may hold the tables while it waits for one of them to be read.
    guard mayWait else {
      return try tables.withLockIfAvailable { (tables) throws(StoreError) in
        try tables.begin(at: place, most: most, isWrite: isWrite, from: file, mayWait: false)
      } ?? nil
    }
    return try tables.withLock { (tables) throws(StoreError) in
      try tables.begin(at: place, most: most, isWrite: isWrite, from: file, mayWait: true)
    }
  }

  func end(_ operation: UInt64) {
    tables.withLock { (tables) in tables.end(operation) }
  }
}
