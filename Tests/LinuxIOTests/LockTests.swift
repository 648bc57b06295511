import Glibc
import LinuxIO
import Testing

@Suite("Locks, semaphores and what is cached") struct LockTests {
  @Test("locks belong to the open file: shared ones go together, an exclusive one with none, and all go with it")
  func locks() throws {
    let directory = try TemporaryDirectory()
    let path = directory.path + "/f"
    let first = try FileDescriptor.open(path, for: .readingAndWriting, creating: .always)
    let second = try FileDescriptor.open(path, for: .readingAndWriting)
    #expect(try first.setLock(.shared, at: 100))
    #expect(try second.setLock(.shared, at: 100))
    #expect(try !second.setLock(.exclusive, at: 100))
    #expect(try second.setLock(.exclusive, at: 101))
    #expect(try first.isLockedByOthers(at: 100))
    #expect(try first.isLockedByOthers(at: 101))
    #expect(try !first.isLockedByOthers(at: 102))
    #expect(try !second.isLockedByOthers(at: 101))
    #expect(try second.setLock(nil, at: 100))
    #expect(try !first.isLockedByOthers(at: 100))
    #expect(try !first.setLock(.shared, at: 101))
    _ = consume second
    #expect(try first.setLock(.exclusive, at: 101))
  }

  @Test("each signal of a semaphore lets one wait go on")
  func semaphore() throws {
    final class Shared: Sendable {
      let there: LinuxIO.Semaphore
      let back: LinuxIO.Semaphore

      init() throws(LinuxError) {
        there = try LinuxIO.Semaphore()
        back = try LinuxIO.Semaphore()
      }
    }
    let shared = try Shared()
    let thread = try Thread(name: "waiter") {
      for _ in 0..<3 { shared.there.wait() }
      shared.back.signal()
    }
    shared.there.signal()
    shared.there.signal(0)
    shared.there.signal(2)
    shared.back.wait()
    thread.join()
  }

  @Test("a range that is zeroed reads as zeros, and the file keeps its length, where the file system can do so")
  func zeroRange() throws {
    let directory = try TemporaryDirectory()
    let file = try FileDescriptor.open(directory.path + "/f", for: .readingAndWriting, creating: .always)
    try file.writeAll([UInt8](repeating: 7, count: 10000), at: 0)
    guard let error = failure({ () throws(LinuxError) in try file.zeroRange(at: 100, byteCount: 12000) }) else {
      #expect(try file.status.byteCount == 10000)
      let memory = try FileDescriptor.open(directory.path + "/f")
      let bytes = try memory.readBytes(upTo: 20000)
      #expect(bytes == [UInt8](repeating: 7, count: 100) + [UInt8](repeating: 0, count: 9900))
      return
    }
    #expect(error.isUnsupported)
  }

  @Test("what is read without waiting is the file's, up to its end, or nothing")
  func readCached() throws {
    let directory = try TemporaryDirectory()
    let file = try FileDescriptor.open(directory.path + "/f", for: .readingAndWriting, creating: .always)
    try file.writeAll([1, 2, 3, 4, 5], at: 0)
    let mapping = try Mapping(anonymous: 4096)
    var vectors = IOVectors(capacity: 2)
    #expect(unsafe vectors.append(mapping.base, byteCount: 2))
    #expect(unsafe vectors.append(mapping.base + 2, byteCount: 8))
    let count = try file.readCached(into: vectors, at: 1)
    #expect(count == nil || count.map { vectors.copyBytes(count: $0) == Array([2, 3, 4, 5].prefix($0)) } == true)
    #expect(try [0, nil].contains(file.readCached(into: vectors, at: 5)))
    let closed = failure { () throws(LinuxError) in
      _ = try FileDescriptor.pipe().reading.readCached(into: vectors, at: 0)
    }
    #expect(closed?.number == ESPIPE)
    withExtendedLifetime(mapping) {}
  }
}
