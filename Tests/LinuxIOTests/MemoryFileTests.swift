import Glibc
import LinuxIO
import Testing

@Suite("MemoryFile") struct MemoryFileTests {
  private let page = 4096

  @Test("a new file has its size, no memory, and can neither shrink nor grow")
  func create() throws {
    let file = try MemoryFile.create(name: "test", byteCount: 16 * page)
    let status = try file.status
    #expect(status.kind == .regularFile)
    #expect(status.byteCount == 16 * page)
    #expect(status.allocatedByteCount == 0)
    #expect(status.pageByteCount == page)
    #expect(!status.isHugePages)
    #expect(failure { () throws(LinuxError) in try file.truncate(toByteCount: page) }?.number == EPERM)
    #expect(failure { () throws(LinuxError) in try file.truncate(toByteCount: 17 * page) }?.number == EPERM)
  }

  @Test("data and holes are found, and a punched hole gives its memory back")
  func extents() throws {
    let file = try MemoryFile.create(name: "test", byteCount: 16 * page)
    try file.writeAll([UInt8](repeating: 7, count: 4 * page), at: 4 * page)
    #expect(try file.nextData(from: 0) == 4 * page)
    #expect(try file.nextHole(from: 4 * page) == 8 * page)
    #expect(try file.nextData(from: 8 * page) == nil)
    #expect(try file.nextHole(from: 16 * page) == nil)
    #expect(try file.status.allocatedByteCount == 4 * page)

    try file.punchHole(at: 5 * page, byteCount: 2 * page)
    #expect(try file.status.allocatedByteCount == 2 * page)
    #expect(try file.nextHole(from: 4 * page) == 5 * page)
    #expect(try file.nextData(from: 5 * page) == 7 * page)
    #expect(try file.readBytes(upTo: 2, at: 5 * page - 1) == [7, 0])
  }

  @Test("an impossible size is an error of the call that refuses it")
  func badSize() {
    #expect(
      failure { () throws(LinuxError) in _ = try MemoryFile.create(name: "test", byteCount: -1) }
        == LinuxError(call: "ftruncate", number: EINVAL))
  }

  @Test("descriptors say what they refer to")
  func kinds() throws {
    let pair = try UnixSocket.pair()
    #expect(try pair.first.descriptor.status.kind == .socket)
    #expect(try Eventfd().descriptor.status.kind == .other)
  }
}
