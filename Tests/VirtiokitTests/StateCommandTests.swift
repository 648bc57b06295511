import Balloon
import DeviceState
import Foundation
import Options
import Testing
import VirtioBlk
import VirtioCore
import VirtioNet

@testable import virtiokit

@Suite("virtiokit state") struct StateCommandTests {
  /// A folder of its own, with files of snapshots.
  private final class Folder {
    let url = FileManager.default.temporaryDirectory.appending(path: "state-\(UUID().uuidString)")

    init() throws { try FileManager.default.createDirectory(at: url, withIntermediateDirectories: true) }

    deinit { try? FileManager.default.removeItem(at: url) }

    func path(_ name: String) -> String { url.appending(path: name).path }

    func write(_ bytes: [UInt8], _ name: String) throws -> String {
      try Data(bytes).write(to: url.appending(path: name))
      return path(name)
    }

    func read(_ name: String) throws -> [UInt8] { Array(try Data(contentsOf: url.appending(path: name))) }
  }

  private static func snapshot(_ change: (inout BalloonState) -> Void = { _ in }) throws -> Snapshot {
    var snapshot = Snapshot()
    var state = BalloonState()
    state.targetPages = 1024
    change(&state)
    try snapshot.add(HostState<BalloonState>.sample)
    try snapshot.add(state)
    return snapshot
  }

  private func run(_ words: String...) throws -> StateOutcome {
    guard case .run(let action) = try StateAction.program.parse(words) else { return .unreadable }
    return action.run()
  }

  @Test("JSON and bytes are the same file, there and back")
  func convert() throws {
    let folder = try Folder()
    let bytes = try Self.snapshot().encoded()
    let file = try folder.write(bytes, "a.state")
    #expect(try run("convert", file, "--to", "json", "--output", folder.path("a.json")) == .fine)
    #expect(try run("convert", folder.path("a.json"), "--output", folder.path("b.state")) == .fine)
    #expect(try folder.read("b.state") == bytes)
    #expect(try run("show", folder.path("a.json")) == .fine)
    #expect(try run("diff", file, folder.path("a.json")) == .fine)
  }

  @Test("an edited file is whole again, and differs in what was set")
  func edit() throws {
    let folder = try Folder()
    let file = try folder.write(try Self.snapshot().encoded(), "a.state")
    let new = folder.path("b.state")
    #expect(try run("edit", file, "--set", "balloon:targetPages=7", "--output", new) == .fine)
    #expect(try Snapshot(decoding: folder.read("b.state")).read(BalloonState.self).targetPages == 7)
    #expect(try run("diff", file, new) == .different)
    #expect(try run("diff", file, new, "--ignore", "targetPages") == .fine)
    #expect(try run("edit", file, "--set", "balloon:nothing=7", "--output", new) == .unreadable)
    #expect(try run("edit", file, "--set", "targetPages=7", "--output", new) == .unreadable)
  }

  @Test("a file is edited in place whole: permissions stay, nothing else is left, and a refused edit changes nothing")
  func inPlace() throws {
    let folder = try Folder()
    let file = try folder.write(try Self.snapshot().encoded(), "a.state")
    try FileManager.default.setAttributes([.posixPermissions: 0o640], ofItemAtPath: file)
    try FileManager.default.createSymbolicLink(atPath: folder.path("link"), withDestinationPath: "a.state")
    #expect(try run("edit", folder.path("link"), "--set", "balloon:targetPages=9", "--in-place") == .fine)
    #expect(try Snapshot(decoding: folder.read("a.state")).read(BalloonState.self).targetPages == 9)
    let attributes = try FileManager.default.attributesOfItem(atPath: file)
    #expect(attributes[.posixPermissions] as? Int == 0o640)
    #expect(try run("edit", file, "--set", "balloon:targetPages=9", "--output", "/dev/full") == .unreadable)
    #expect(try run("edit", file, "--set", "balloon:targetPages=10", "--output", folder.url.path) == .unreadable)
    #expect(try FileManager.default.contentsOfDirectory(atPath: folder.url.path).sorted() == ["a.state", "link"])
    for words in [["--output", "x", "--in-place", "--set", "a:b=1"], ["--in-place"]] {
      #expect(throws: OptionError.self) { try StateAction.program.parse(["edit", file] + words) }
    }
    #expect(throws: OptionError.self) { try StateAction.program.parse(["edit", "-", "--set", "a:b=1", "--in-place"]) }
  }

  @Test("a card of more pairs than any has is refused without being made")
  func manyPairs() throws {
    var snapshot = Snapshot()
    var state = NetState()
    state.address = try #require(EthernetAddress("52:54:00:12:34:56"))
    state.pairCount = 0x8000
    var host = HostState<NetState>()
    host.device = DeviceID.network.rawValue
    host.features = [.version1]
    try snapshot.add(host)
    try snapshot.add(state)
    var report = StateReport()
    report.check(snapshot)
    #expect(report.lines.contains { $0.contains("pairCount") }, "\(report.lines)")
    #expect(!report.isConsistent)
  }

  @Test("a stream of QEMU is not written over by an edit in place")
  func foreign() throws {
    let folder = try Folder()
    let file = try folder.write(Array("QEVM".utf8) + [0, 0, 0, 3], "stream")
    #expect(try run("edit", file, "--set", "net:pairCount=1", "--in-place") == .unreadable)
    #expect(try folder.read("stream").count == 8)
  }

  /// A stream of QEMU with two pages of memory, so many of which it tells, and a clock.
  private static func stream(machine: String, pageCount: UInt64) -> [UInt8] {
    func big(_ value: some FixedWidthInteger) -> [UInt8] {
      stride(from: value.bitWidth - 8, through: 0, by: -8).map { UInt8(truncatingIfNeeded: value >> $0) }
    }
    func name(_ text: String) -> [UInt8] { [UInt8(text.utf8.count)] + Array(text.utf8) }
    let footer = [0x7E] + big(UInt32(0))
    var bytes = Array("QEVM".utf8) + big(UInt32(3)) + [7] + big(UInt32(machine.utf8.count)) + Array(machine.utf8)
    bytes += [1] + big(UInt32(0)) + name("ram") + big(UInt32(0)) + big(UInt32(4))
    bytes += big(UInt64(8192 | 4)) + name("microvm.ram") + big(UInt64(8192)) + big(UInt64(0x10)) + footer
    bytes += [3] + big(UInt32(0))
    for page in 0..<pageCount { bytes += big(page * 4096 | 2) + name("microvm.ram") + [0] }
    bytes += big(UInt64(0x10)) + footer
    bytes += [4] + big(UInt32(1)) + name("clock") + big(UInt32(0)) + big(UInt32(1)) + [5, 0x7E] + big(UInt32(1))
    let description =
      #"{"page_size": 4096, "devices": [{"name": "clock", "instance_id": 0, "vmsd_name": "x", "version": 1, "#
      + #""fields": [{"name": "ticks", "type": "uint8", "size": 1}]}]}"#
    return bytes + [0, 6] + big(UInt32(description.utf8.count)) + Array(description.utf8)
  }

  @Test("a stream of QEMU that lacks pages is not consistent; that its machine or devices are not known is no fault")
  func checkedStream() throws {
    let folder = try Folder()
    for (machine, pageCount, outcome) in [
      ("microvm", 2 as UInt64, StateOutcome.fine), ("microvm", 1, .different), ("virt", 2, .fine),
    ] {
      let file = try folder.write(Self.stream(machine: machine, pageCount: pageCount), "stream")
      #expect(try run("check", file) == outcome, "\(machine), \(pageCount)")
      #expect(try run("show", file) == .fine)
    }
  }

  @Test("a recording replaces a recording and nothing else, so a slip costs no image")
  func recordingFile() throws {
    let folder = try Folder()
    let image = try folder.write([1, 2, 3], "disk.img")
    #expect(throws: OutputTrouble.self) { try RecordingFile(image) }
    #expect(try folder.read("disk.img") == [1, 2, 3])
    #expect(throws: OutputTrouble.self) { try RecordingFile(folder.url.path) }
    let old = try folder.write(Array("VREC\r\n\u{1a}".utf8) + [1, 0], "old.rec")
    for path in [old, try folder.write([], "empty"), folder.path("new")] {
      #expect(throws: Never.self) { try RecordingFile(path) }
    }
    #expect(try folder.read("old.rec").isEmpty)
  }

  @Test("a state that no device could go on from is not consistent, for the reason that the device gives")
  func check() throws {
    var report = StateReport()
    report.check(try Self.snapshot())
    #expect(report.isConsistent, "\(report.lines)")
    report = StateReport()
    report.check(try Self.snapshot { $0.hintPhase = .active })
    #expect(!report.isConsistent)
    #expect(report.lines.contains { $0.contains("hintPhase") })
    var offered = Snapshot()
    var host = HostState<BalloonState>.sample
    host.features.insert(Feature(rawValue: 60))
    try offered.add(host)
    try offered.add(BalloonState())
    report = StateReport()
    report.check(offered)
    #expect(report.lines.contains { $0.contains("not offered") }, "\(report.lines)")
  }

  @Test("a damaged file is shown as far as it goes, and one that is none cannot be read")
  func damage() throws {
    let folder = try Folder()
    let bytes = try Self.snapshot().encoded()
    let cut = try folder.write(Array(bytes.dropLast(20)), "cut.state")
    #expect(try run("show", cut) == .different)
    #expect(try run("hexdump", cut) == .different)
    #expect(try run("check", cut) == .different)
    #expect(try run("convert", cut, "--output", folder.path("x")) == .unreadable)
    #expect(try run("convert", cut, "--salvage", "--output", folder.path("x")) == .different)
    #expect(try Snapshot(decoding: folder.read("x")).sections.map(\.name) == ["balloon-host"])
    let none = try folder.write([1, 2, 3], "none")
    #expect(try run("show", none) == .unreadable)
    #expect(try run("show", folder.path("missing")) == .unreadable)
  }

  @Test("a section is written for an older reader, or refused")
  func versions() throws {
    let folder = try Folder()
    let file = try folder.write(try Self.snapshot().encoded(), "a.state")
    #expect(try run("convert", file, "--as", "balloon=1", "--output", folder.path("b")) == .fine)
    #expect(try run("convert", file, "--as", "balloon=9", "--output", folder.path("b")) == .unreadable)
    #expect(throws: OptionError.self) { try StateAction.program.parse(["convert", file, "--as", "balloon"]) }
  }

  @Test("numbers are shown with what they mean")
  func meanings() {
    #expect(StateMeaning.remark(section: "balloon/1", "targetPages", .unsigned(1024)) == "4 MiB")
    #expect(
      StateMeaning.remark(section: "block-host", "featuresLow", .unsigned(1 << 9 | 1 << 32)) == "FLUSH, VERSION_1")
    #expect(StateMeaning.remark(section: "block-host", "queues[index=0].usedRing", .unsigned(4096)) == "0x1000")
    #expect(StateMeaning.remark(section: "net", "address", .unsigned(0x5254_0012_3456)) == "52:54:00:12:34:56")
    #expect(StateMeaning.remark(section: "balloon", "statistics[0].tag", .unsigned(99)) == nil)
  }

  @Test("every section that devices have is known by its schema")
  func schemas() throws {
    #expect(try KnownState.all.map { try $0.schema().section } == KnownState.all.map(\.section))
    #expect(try KnownState.all.allSatisfy { try $0.schema().violations.isEmpty })
    #expect(try run("schema", "--section", "lamp") == .unreadable)
  }
}

extension HostState<BalloonState> {
  /// A balloon whose driver has come, with a transport that shows no status.
  fileprivate static var sample: Self {
    var state = Self()
    state.device = DeviceID.balloon.rawValue
    state.features = [.version1, .statisticsQueue, .freePageHint]
    return state
  }
}
