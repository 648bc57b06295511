import Testing

@testable import balloon_demo

/// Reads `newc` archives, by its own constants.
private struct UnpackedEntry: Equatable {
  var name: String
  var mode: UInt32
  var content: [UInt8]

  static func all(in archive: [UInt8]) throws -> [UnpackedEntry] {
    var entries: [UnpackedEntry] = []
    var rest = archive[...]
    while true {
      try #require(rest.count >= 110)
      let header = String(decoding: rest.prefix(110), as: UTF8.self)
      try #require(header.hasPrefix("070701"))
      let fields = try (0..<13).map { index in
        let start = header.index(header.startIndex, offsetBy: 6 + 8 * index)
        return try #require(UInt32(header[start..<header.index(start, offsetBy: 8)], radix: 16))
      }
      let (fileSize, nameSize) = (Int(fields[6]), Int(fields[11]))
      let name = String(decoding: rest.dropFirst(110).prefix(nameSize - 1), as: UTF8.self)
      rest = rest.dropFirst(roundedUp(110 + nameSize))
      if name == "TRAILER!!!" {
        #expect(rest.isEmpty)
        return entries
      }
      entries.append(UnpackedEntry(name: name, mode: fields[1], content: Array(rest.prefix(fileSize))))
      rest = rest.dropFirst(roundedUp(fileSize))
    }
  }

  private static func roundedUp(_ count: Int) -> Int { (count + 3) / 4 * 4 }
}

@Suite("CpioArchive") struct CpioArchiveTests {
  @Test("an entry is a header of 110 characters, a name and content, each filled up to a multiple of four")
  func entry() {
    var archive = CpioArchive()
    archive.addFile("a", [1, 2, 3, 4, 5])
    let header =
      "070701" + "00000001" + "000081a4" + "00000000" + "00000000" + "00000001" + "00000000" + "00000005"
      + "00000000" + "00000000" + "00000000" + "00000000" + "00000002" + "00000000"
    let start = Array(header.utf8) + Array("a".utf8) + [0] + [1, 2, 3, 4, 5, 0, 0, 0]
    #expect(Array(archive.bytes.prefix(start.count)) == start)
  }

  @Test("what has been added comes out again in order", arguments: 0..<9)
  func roundTrip(byteCount: Int) throws {
    let content = (0..<byteCount).map { UInt8($0) }
    var archive = CpioArchive()
    archive.addDirectory("dir")
    archive.addFile("dir/" + String(repeating: "n", count: byteCount + 1), content)
    archive.addFile("init", content, isProgram: true)
    #expect(
      try UnpackedEntry.all(in: archive.bytes) == [
        UnpackedEntry(name: "dir", mode: 0o40755, content: []),
        UnpackedEntry(name: "dir/" + String(repeating: "n", count: byteCount + 1), mode: 0o100644, content: content),
        UnpackedEntry(name: "init", mode: 0o100755, content: content),
      ])
  }

  @Test("the guest's archive has all that its script uses")
  func initrd() throws {
    let modules = ["first.ko", "second.ko"].map { GuestModule(fileName: $0, content: Array($0.utf8)) }
    let initrd = GuestInitrd(busybox: [7, 7, 7], modules: modules)
    let entries = try UnpackedEntry.all(in: initrd.bytes)
    #expect(entries.first { $0.name == "bin/busybox" }?.content == [7, 7, 7])
    #expect(entries.first { $0.name == "modules/second.ko" }?.content == Array("second.ko".utf8))
    let directories = ["bin", "dev", "kept", "modules", "proc", "scratch", "sys"]
    #expect(entries.filter { $0.mode == 0o40755 }.map(\.name).sorted() == directories)
    let script = try #require(entries.first { $0.name == "init" })
    #expect(script.mode == 0o100755)
    #expect(String(decoding: script.content, as: UTF8.self).hasPrefix("#!/bin/busybox sh\n"))
    #expect(initrd.script.contains("for module in first.ko second.ko; do"))
  }

  @Test("the guest's script is one that a shell can read")
  func script() throws {
    let shell = try #require(Tool.find("sh"))
    let script = GuestInitrd(busybox: [], modules: []).script
    #expect(try Tool(shell).output(of: ["-n", "-c", script]).isEmpty)
    #expect(throws: LinuxDemoError.self) { try Tool(shell).output(of: ["-n", "-c", "if " + script]) }
  }
}
