import Foundation
import GuestRAM
import LinuxIO
import Testing

@testable import Migration

/// What an enemy passes as guest memory.
@Suite("Migration: hostile memory files") struct HostileFilesTests {
  private static let regionByteCount: UInt64 = 64 * pageByteCount

  /// Says that the guest has a region in each of these places, passes the files, and tells what the destination says.
  ///
  /// A pipe's end goes with them: once the destination has failed, it has closed all that it got.
  private func receive(
    places: [(file: UInt16, offset: UInt64)] = [(0, 0)], announced: UInt16? = nil,
    then: [(FrameKind, [UInt8])] = [], _ makeFiles: (inout DescriptorList) throws -> Void
  ) throws -> MigrationError? {
    let links = try TestLinks()
    let received = try Handover<MigrationError?>()
    let limits = DestinationLimits(mostMemory: 16 << 20, time: patience, mostFiles: 4)
    let thread = try Thread(name: "destination") {
      var destination = Destination(links.destination, producer: "destination", limits: limits)
      received.put(outcome { () throws(MigrationError) in _ = try destination.receive() }.error)
      links.destination.shutDown()
    }
    let probe = try FileDescriptor.pipe()
    let reading = try probe.reading.duplicate()
    try pass(places, announced, then, makeFiles, probe.writing, over: links.source)
    thread.join()
    // Nothing to read and nobody to write any more: only then it is the end.
    try reading.setBlocking(false)
    #expect(try reading.readBytes(upTo: 1).isEmpty, "a descriptor is still open")
    return received.wait()
  }

  private func pass(
    _ places: [(file: UInt16, offset: UInt64)], _ announced: UInt16?, _ then: [(FrameKind, [UInt8])],
    _ makeFiles: (inout DescriptorList) throws -> Void, _ probe: consuming FileDescriptor, over link: TestLink
  ) throws {
    var files = DescriptorList()
    try makeFiles(&files)
    files.append(probe)
    var writer = WireWriter()
    writer.append(announced ?? UInt16(files.count))
    for place in places {
      writer.append(place.file)
      writer.append(place.offset)
    }
    var stream = FrameStream(link, limit: patience)
    let regions = places.indices.map { pages(UInt64($0) * 64, 64) }
    let sent = outcome { () throws(MigrationError) in
      try stream.open(Hello(.source, producer: "enemy"))
      try stream.send(.handOver, GuestDescription(regions: regions, notes: []).payload)
      try stream.sender.send(.files, writer.bytes, descriptors: files)
      for (kind, payload) in then { try stream.send(kind, payload) }
    }
    // The destination may have hung up before all was sent.
    if let error = sent.error { #expect(error == .peerGone) }
  }

  private func check(_ error: MigrationError?, _ words: String) {
    guard case .unusableFiles(let reason) = error else {
      Issue.record("\(words): \(String(describing: error))")
      return
    }
    #expect(reason.contains(words))
  }

  private func memoryFile(_ byteCount: UInt64 = regionByteCount) throws -> FileDescriptor {
    try MemoryFile.create(name: "ram", byteCount: Int(byteCount))
  }

  @Test("a pipe, a file on a disk and a device are no memory")
  func kinds() throws {
    check(try receive { try $0.append(FileDescriptor.pipe().reading.duplicate()) }, "not in memory")
    check(try receive { try $0.append(FileDescriptor.open("/dev/zero", for: .readingAndWriting)) }, "not in memory")
    check(try receive { try $0.append(FileDescriptor.open("/proc/self/exe")) }, "not in memory")
  }

  @Test("a file that can only be read, or that could be made shorter, is refused")
  func rights() throws {
    let file = try memoryFile()
    check(
      try receive { try $0.append(FileDescriptor.open("/proc/self/fd/\(file.rawValue)")) },
      "not open for reading and writing")
    check(
      try receive {
        let path = "/dev/shm/virtiokit-\(UUID().uuidString)"
        let named = try FileDescriptor.open(path, for: .readingAndWriting, creating: .always)
        try FileManager.default.removeItem(atPath: path)
        try named.truncate(toByteCount: Int(Self.regionByteCount))
        $0.append(named)
      }, "could be made shorter")
  }

  @Test("a file that ends before its region, wherever that is said to be, is refused")
  func short() throws {
    let most = UInt64.max
    for (size, offset) in [(63 * pageByteCount, 0), (64 * pageByteCount, 1), (4096, most), (4096, most - 4095)] {
      let error = try receive(places: [(0, offset)]) { try $0.append(memoryFile(size)) }
      guard case .memory(.fileTooShort) = error else {
        Issue.record("\(size), \(offset): \(String(describing: error))")
        continue
      }
    }
  }

  @Test("more files than are taken, and others than are announced, are refused")
  func counts() throws {
    check(
      try receive { (files) in
        for _ in 0..<4 { try files.append(memoryFile()) }
      }, "more came")
    check(try receive(announced: 4) { try $0.append(memoryFile()) }, "4 are announced and 2 came")
    check(try receive(announced: 0) { try $0.append(memoryFile()) }, "0 are announced and 2 came")
  }

  @Test("a table that names no file, or is too short or too long, is malformed")
  func tables() throws {
    #expect(try receive(places: [(2, 0)]) { try $0.append(memoryFile()) } == .malformedFrame(.files))
    #expect(try receive(places: [(0, 0), (.max, 0)]) { try $0.append(memoryFile()) } == .malformedFrame(.files))
  }

  @Test("what is passed and named by no region is judged all the same")
  func unnamed() throws {
    check(try receive { try $0.append(memoryFile()) }, "number 1 is not in memory")
  }
}
