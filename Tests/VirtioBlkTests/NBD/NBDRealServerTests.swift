import Foundation
import GuestRAM
import LinuxIO
import Testing

@testable import VirtioBlk

/// Servers that others wrote. Without them these tests say that they were skipped: `apt-get install nbdkit qemu-utils`.
@Suite("NBD with real servers", .serialized) struct NBDRealServerTests {
  private static let hasNbdkit = FileManager.default.isExecutableFile(atPath: "/usr/bin/nbdkit")
  private static let hasQemu = FileManager.default.isExecutableFile(atPath: "/usr/bin/qemu-nbd")

  /// A server, ended with its value.
  private final class Server {
    private let process: ChildProcess

    init(_ program: String, _ arguments: [String]) throws {
      process = try ChildProcess("/usr/bin/" + program, arguments)
    }

    /// Ends the server as a crash would.
    func kill() {
      process.kill(SIGKILL)
      process.waitUntilExit()
    }

    deinit { kill() }
  }

  /// A name in the temporary directory, removed afterwards.
  private func withPath(_ body: (String) throws -> Void) throws {
    let path = NSTemporaryDirectory() + "nbd-\(UUID().uuidString.prefix(8))"
    defer { try? FileManager.default.removeItem(atPath: path) }
    try body(path)
  }

  /// An empty disk of 64 MiB.
  private func makeImage(_ path: String) throws {
    _ = FileManager.default.createFile(atPath: path, contents: nil)
    try #require(FileHandle(forWritingAtPath: path)).truncate(atOffset: 64 << 20)
  }

  /// Connects to a server that may not listen yet.
  private func open(_ address: String, _ options: NBDOptions = NBDOptions()) throws -> NBDStore {
    let end = MonotonicClock.moment(after: .seconds(20))
    while true {
      do {
        return try NBDStore(try NBDAddress(parsing: address), options: options)
      } catch {
        guard MonotonicClock.now < end else { throw error }
        usleep(10_000)
      }
    }
  }

  /// Writes, reads, zeroes and trims, by one thread and by several.
  private func exercise(_ store: NBDStore) throws {
    let probe = try StoreProbe(store)
    let bytes = (0..<300 * 512).map { UInt8(truncatingIfNeeded: $0 / 7) }
    try probe.write(bytes, at: 512)
    #expect(try probe.read(bytes.count, at: 512) == bytes)
    try probe.perform(.flush)
    try probe.perform(.writeZeroes(4096..<8192, mayUnmap: false))
    #expect(try probe.read(4096, at: 4096) == [UInt8](repeating: 0, count: 4096))
    try probe.perform(.writeZeroes(8192..<65536, mayUnmap: true))
    #expect(try probe.read(4096, at: 8192) == [UInt8](repeating: 0, count: 4096))
    try probe.perform(.discard(0..<store.byteCount))
    #expect(try hammer(store, threads: 8, rounds: 40) == [])
  }

  /// Has each thread write and read back stripes of its own.
  /// - Returns: what went wrong.
  private func hammer(_ store: NBDStore, threads: Int, rounds: Int) throws -> [String] {
    let failures = Monitor<[String]>([])
    try withThreads(threads) { (index) in
      do {
        let probe = try StoreProbe(store, mostByteCount: 1 << 16)
        for round in 0..<rounds {
          let place = UInt64(index * rounds + round) * 16384
          let bytes = [UInt8](repeating: UInt8(truncatingIfNeeded: index * 31 + round), count: 16384)
          try probe.write(bytes, at: place)
          if try probe.read(16384, at: place) != bytes { failures.withLock { $0.append("lost at \(place)") } }
        }
      } catch {
        failures.withLock { $0.append("\(error)") }
      }
    }
    return failures.withLock { $0 }
  }

  @Test("nbdkit over a unix socket", .enabled(if: hasNbdkit, "needs nbdkit"))
  func nbdkitUnix() throws {
    try withPath { (path) in
      let server = try Server("nbdkit", ["-f", "-U", path, "memory", "64M"])
      try withExtendedLifetime(server) {
        let store = try open("nbd+unix:///?socket=\(path)")
        #expect(store.byteCount == 64 << 20)
        try exercise(store)
      }
    }
  }

  @Test("nbdkit over TCP, by number and by name, over several connections", .enabled(if: hasNbdkit, "needs nbdkit"))
  func nbdkitTCP() throws {
    let port = UInt16.random(in: 20000..<30000)
    let server = try Server("nbdkit", ["-f", "-i", "127.0.0.1", "-p", "\(port)", "memory", "64M"])
    try withExtendedLifetime(server) {
      var options = NBDOptions()
      options.connectionCount = 4
      try exercise(try open("nbd://127.0.0.1:\(port)", options))
      try exercise(try open("nbd://localhost:\(port)/"))
    }
  }

  @Test(
    "nbdkit that can only be read, cannot write zeroes, or has large blocks", .enabled(if: hasNbdkit, "needs nbdkit"))
  func nbdkitKinds() throws {
    try withPath { (path) in
      let server = try Server("nbdkit", ["-f", "-r", "-U", path, "memory", "1M"])
      let isReadOnly = try withExtendedLifetime(server) { try open("nbd+unix:///?socket=\(path)").isReadOnly }
      #expect(isReadOnly)
    }
    try withPath { (path) in
      let arguments = ["-f", "-U", path, "--filter=nozero", "--filter=blocksize-policy", "memory", "64M"]
      let server = try Server(
        "nbdkit",
        arguments + [
          "zeromode=notrim", "blocksize-minimum=4096", "blocksize-preferred=8192", "blocksize-maximum=65536",
        ])
      try withExtendedLifetime(server) {
        let store = try open("nbd+unix:///?socket=\(path)")
        #expect(store.limits.blockByteCount == 4096)
        let bytes = (0..<1 << 19).map { UInt8(truncatingIfNeeded: $0 >> 9) }
        let probe = try StoreProbe(store)
        try probe.write(bytes, at: 4096)
        #expect(try probe.read(bytes.count, at: 4096) == bytes)
        try probe.perform(.writeZeroes(8192..<200 * 4096, mayUnmap: true))
        #expect(try probe.read(4096, at: 199 * 4096) == [UInt8](repeating: 0, count: 4096))
      }
    }
  }

  @Test("nbdkit's errors are told, and the connection lives on", .enabled(if: hasNbdkit, "needs nbdkit"))
  func nbdkitErrors() throws {
    try withPath { (path) in
      let arguments = ["-f", "-U", path, "--filter=error", "memory", "64M", "error=ENOSPC", "error-pwrite-rate=100%"]
      let server = try Server("nbdkit", arguments)
      try withExtendedLifetime(server) {
        let probe = try StoreProbe(try open("nbd+unix:///?socket=\(path)"))
        let failure = nbdFailure { try probe.write([UInt8](repeating: 1, count: 512), at: 0) }
        guard case .refused(let number, _) = failure else {
          Issue.record("\(String(describing: failure))")
          return
        }
        #expect(number == 28)
        #expect(try probe.read(512, at: 0) == [UInt8](repeating: 0, count: 512))
      }
    }
  }

  @Test(
    "nbdkit killed and started again under load: nothing fails, nothing is lost",
    .enabled(if: hasNbdkit, "needs nbdkit"))
  func nbdkitRestarted() throws {
    try withPath { (path) in
      try withPath { (image) in
        try makeImage(image)
        var server = try Server("nbdkit", ["-f", "-U", path, "file", image])
        let store = try open("nbd+unix:///?socket=\(path)")
        let failures = Monitor<[String]?>(nil)
        let over = WakeUp()
        let load = try Thread(name: "load") {
          let found = Result { try hammer(store, threads: 8, rounds: 400) }
          failures.withLock { $0 = (try? found.get()) ?? ["\(found)"] }
          over.wakeAll()
        }
        var kills = 0
        while failures.withLock({ $0 }) == nil {
          server.kill()
          kills += 1
          try? FileManager.default.removeItem(atPath: path)
          server = try Server("nbdkit", ["-f", "-U", path, "file", image])
          _ = failures.wait(on: over, until: MonotonicClock.moment(after: .milliseconds(400))) { $0 }
        }
        load.join()
        #expect(failures.withLock { $0 } == [])
        #expect(kills > 0)
      }
    }
  }

  @Test("qemu-nbd over a unix socket and by an export's name", .enabled(if: hasQemu, "needs qemu-nbd"))
  func qemu() throws {
    try withPath { (path) in
      try withPath { (image) in
        try makeImage(image)
        let server = try Server(
          "qemu-nbd", ["-t", "-e", "4", "-f", "raw", "-x", "disk", "--discard=unmap", "-k", path, image])
        try withExtendedLifetime(server) {
          try exercise(try open("nbd+unix:///disk?socket=\(path)"))
          let failure = nbdFailure { _ = try NBDStore(try NBDAddress(parsing: "nbd+unix:///none?socket=\(path)")) }
          guard case .exportRefused(code: 6, _) = failure else {
            Issue.record("\(String(describing: failure))")
            return
          }
        }
      }
    }
  }
}
