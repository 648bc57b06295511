import Foundation
import Glibc
import LinuxIO
import Testing

@Suite("FileDescriptor") struct FileDescriptorTests {
  @Test("a descriptor is closed by whoever owns it last, and by nobody else")
  func ownership() throws {
    let file = try MemoryFile.create(name: "test", byteCount: 4096)
    let number = file.rawValue
    let copy = try file.duplicate()
    #expect(copy.rawValue != number)
    #expect(file.release() == number)
    #expect(openCount(like: copy) == 2)
    _ = FileDescriptor(owning: number)
    #expect(openCount(like: copy) == 1)
  }

  @Test("files are created as asked, and errors name the path")
  func open() throws {
    let directory = try TemporaryDirectory()
    let path = directory.path + "/f"
    #expect(
      failure { () throws(LinuxError) in _ = try FileDescriptor.open(path) }
        == LinuxError(call: "open", subject: path, number: ENOENT))
    let file = try FileDescriptor.open(path, for: .readingAndWriting, creating: .always)
    try file.writeAll([1, 2, 3])
    try file.synchronize()
    #expect(
      failure { () throws(LinuxError) in _ = try FileDescriptor.open(path, creating: .always) }?.number == EEXIST)
    #expect(try FileDescriptor.open(path, creating: .ifMissing).readBytes(upTo: 9) == [1, 2, 3])
    #expect(try FileDescriptor.open(path, for: .writing, creating: .emptied).status.byteCount == 0)
  }

  @Test("an exact read tells the end from a truncated end")
  func exactReads() throws {
    let ends = try FileDescriptor.pipe()
    try ends.writing.writeAll([1, 2, 3])
    #expect(try ends.reading.readBytes(exactly: 2) == [1, 2])
    let reading = try ends.reading.duplicate()
    _ = consume ends
    #expect(
      failure { () throws(LinuxError) in _ = try reading.readBytes(exactly: 2) }
        == LinuxError(call: "read", number: ECONNRESET))
    #expect(try reading.readBytes(exactly: 2) == nil)
    #expect(try reading.readBytes(upTo: 2) == [])
    #expect(try reading.readBytes(exactly: 0) == [])
  }

  @Test("a pipe that does not block is waited for, within the limit")
  func limits() throws {
    let ends = try FileDescriptor.pipe()
    try ends.reading.setBlocking(false)
    try ends.writing.setBlocking(false)
    #expect(
      failure { () throws(LinuxError) in _ = try ends.reading.readBytes(exactly: 1, within: .milliseconds(1)) }
        == LinuxError(call: "read", number: ETIMEDOUT))
    let bytes = [UInt8](repeating: 5, count: 1 << 20)
    #expect(
      failure { () throws(LinuxError) in try ends.writing.writeAll(bytes, within: .milliseconds(1)) }
        == LinuxError(call: "write", number: ETIMEDOUT))
  }

  @Test("a file is replaced whatever a killed process has left beside it; a link that leads nowhere stays")
  func replacing() throws {
    let directory = try TemporaryDirectory()
    let path = directory.path + "/file"
    let left = "\(path).\(getpid()).new"
    try FileDescriptor.replaceContents(of: left, with: [9])
    for content in [[1], [2, 3]] as [[UInt8]] {
      try FileDescriptor.replaceContents(of: path, with: content)
      #expect(try FileDescriptor.open(path).status.byteCount == UInt64(content.count))
    }
    let link = directory.path + "/link"
    try FileManager.default.createSymbolicLink(atPath: link, withDestinationPath: "nowhere")
    #expect(
      failure { () throws(LinuxError) in try FileDescriptor.replaceContents(of: link, with: [4]) }
        == LinuxError(call: "stat", subject: link, number: ENOENT))
    let names = try FileManager.default.contentsOfDirectory(atPath: directory.path)
    #expect(Set(names) == ["file", "file.\(getpid()).new", "link"])
  }

  @Test("an error reads as a sentence about its call and subject")
  func errorDescriptions() {
    #expect(LinuxError(call: "pwritev", number: ENOSPC).description == "pwritev: No space left on device (error 28)")
    #expect(
      LinuxError(call: "open", subject: "/x", number: ENOENT).description
        == "open(/x): No such file or directory (error 2)")
  }
}
