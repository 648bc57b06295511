import Balloon
import Foundation
import GuestRAM
import LinuxIO
import SimulatedGuest
import Support
import Testing
import VirtioBlk
import VirtioCore
import VirtioNet

@Suite("Devices on the move", .serialized) struct DeviceMoveTests {
  private static let byteCount: UInt64 = 1 << 20
  static let ways = Way.allCases.filter(\.isAvailable)

  /// A disk in a file, past the page cache where the file system allows that.
  static func openImage(in directory: String) throws(StoreError) -> any BlockStore {
    let path = directory + "/disk.raw"
    do throws(StoreError) {
      return try FileStore(path: path, unbuffered: true)
    } catch {
      guard FileManager.default.fileExists(atPath: path) else {
        _ = FileManager.default.createFile(atPath: path, contents: Data(count: Int(byteCount)))
        return try openImage(in: directory)
      }
      return try FileStore(path: path)
    }
  }

  @Test("A to B to A to B: no request, packet or write is lost or done twice", arguments: ways)
  func thereAndBack(_ way: Way) throws {
    let seed = SeededGenerator(for: "DeviceMoveTests.thereAndBack \(way)").seed
    let world = try World(seed: seed) { (path) throws(StoreError) in try Self.openImage(in: path) }
    try world.work()
    for _ in 0..<3 {
      try world.move(way)
      try world.work()
    }
    #expect(world.inFlightCount > 0, "requests were in flight when the guest was stopped")
    try world.checkImage()
  }

  @Test(
    "2.3, 5.5.6.4: configuration changes that the guest has not seen, and the statistics buffer that is held, go along",
    arguments: ways)
  func pendingNews(_ way: Way) throws {
    let world = try World(seed: 1) { (path) throws(StoreError) in try Self.openImage(in: path) }
    try world.work()
    let news = try world.machine.runner.ask { try $0.block?.configurationChanges() ?? 0 }
    for round: UInt32 in 1...3 {
      let (pageCount, isUp) = (100 * round, round % 2 == 0)
      let capacity = Self.byteCount + UInt64(round) << 16
      try world.move(way) { (side) in
        // Guest and devices stand still: what changes now is seen by neither of them here.
        try side.balloon.call { $0.update { $0.setTarget(BalloonTarget(pageCount: pageCount)) } }
        try side.net.call { $0.update { $0.setLink(isUp: isUp) } }
        let failure = try side.block.call { (host) in
          Result { () throws(StoreError) in
            try host.update { (device) throws(StoreError) in try device.resize(toByteCount: capacity) }
          }
        }
        try failure?.get()
      }
      let runner = world.machine.runner
      #expect(try runner.wait { try $0.net?.isLinkUp() == isUp })
      #expect(try runner.wait { try $0.block?.configurationChanges() == news + UInt64(round) })
      #expect(try runner.wait { try $0.figures().balloonByteCount == UInt64(pageCount) * 4096 })
      let total = try runner.ask { try $0.figures().totalByteCount }
      let balloon = world.machine.side.balloon
      _ = try balloon.call { (host) in
        host.update { $0.requestStatistics() }
        host.wake()
      }
      #expect(
        try runner.wait { _ in
          let reading = try balloon.call { $0.device.reading(of: .totalMemory, freshFor: .max) }
          if case .fresh(total, _) = reading { return true }
          return false
        })
    }
    let integrity = try world.machine.runner.ask { try $0.checkIntegrity() }
    #expect(integrity.isIntact, "\(integrity.mismatch?.description ?? "")")
  }

  @Test(
    "5.2.6.2: what was answered on one machine is read on the next, whichever of its caches it was in", arguments: ways)
  func sharedDisk(_ way: Way) throws {
    let disk = SharedDisk(byteCount: Self.byteCount)
    let world = try World(seed: SeededGenerator(for: "DeviceMoveTests.sharedDisk \(way)").seed) { _ in
      CachingStore(disk)
    }
    try world.work()
    for _ in 0..<3 {
      try world.move(way)
      try world.work()
    }
    try world.check { disk.block(at: $0) }
    #expect(disk.faults.isEmpty)
    let requests = try world.machine.runner.ask { try $0.block?.requestCounts().completed ?? 0 }
    #expect(disk.operationCount - disk.ownersFlushCount == requests, "each request was carried out once")
  }

  @Test(
    "a guest that its destination refuses goes on where it is with its disk and card, and is moved afterwards",
    arguments: ways)
  func calledOff(_ way: Way) throws {
    let world = try World(seed: 3) { (path) throws(StoreError) in try Self.openImage(in: path) }
    try world.work()
    try world.fail(way)
    try world.work()
    try world.move(way)
    try world.work()
    try world.checkImage()
  }
}

extension World {
  /// Ends all that is under way, and compares disk and wire; the disk is in a file.
  func checkImage() throws {
    let image = try FileHandle(forReadingFrom: URL(filePath: path + "/disk.raw"))
    try check { (place) in
      try image.seek(toOffset: place)
      return Array(try image.read(upToCount: 4096) ?? Data())
    }
  }
}
