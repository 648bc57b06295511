import GuestRAM
import LinuxIO
import Virtqueue

/// The in-flight region: what a back-end that comes after this one needs to know of its requests.
extension Session where Device: ~Copyable {
  /// Makes a region, which counts once the front-end has sent it back.
  func sendInflightRegion(for message: borrowing Message) throws(VhostUserError) {
    var place = try message.inflightPlace()
    let byteCount = try areaByteCount(place) * UInt64(place.queueCount)
    place = InflightPlace(
      isPadded: place.isPadded, byteCount: byteCount, fileOffset: 0, queueCount: place.queueCount,
      queueSize: place.queueSize)
    let file = try system { () throws(LinuxError) in
      try MemoryFile.create(name: "in-flight", byteCount: (Int(byteCount) + 4095) / 4096 * 4096)
    }
    try connection.send(message.request, flags: .reply, payload: place.encoded, descriptors: [file.rawValue])
  }

  /// Takes over a region, new or left by an earlier back-end. Each ring goes by it from its next start on.
  func setInflightRegion(_ message: inout Message) throws(VhostUserError) {
    let place = try message.inflightPlace()
    let areaByteCount = try areaByteCount(place)
    let needed = areaByteCount * UInt64(place.queueCount)
    guard place.byteCount >= needed else { throw .inflightRegionTooShort(byteCount: place.byteCount, needed: needed) }
    guard let file = message.descriptors.takeFirst() else { return }
    let memory = try map(file, place)
    for ring in rings {
      try close(ring)
      guard ring.index < Int(place.queueCount) else {
        ring.inflight = nil
        continue
      }
      ring.inflight = InflightArea(
        in: memory, at: GuestAddress(areaByteCount * UInt64(ring.index)), entryCount: place.queueSize)
    }
  }

  private func map(_ file: consuming FileDescriptor, _ place: InflightPlace) throws(VhostUserError) -> GuestMemory {
    do throws(GuestMemoryError) {
      let region = try MemoryRegion(
        file: file, at: place.fileOffset, byteCount: place.byteCount, start: GuestAddress(0))
      return try GuestMemory(regions: [region])
    } catch {
      throw .memory(error)
    }
  }

  private func areaByteCount(_ place: InflightPlace) throws(VhostUserError) -> UInt64 {
    guard (1...rings.count).contains(Int(place.queueCount)), RingLayout.isLegal(size: place.queueSize) else {
      throw .illegalInflightRegion(queueCount: place.queueCount, queueSize: place.queueSize)
    }
    return InflightArea.byteCount(entryCount: place.queueSize)
  }
}
