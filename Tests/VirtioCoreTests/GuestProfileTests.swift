import DeviceState
import Support
import Testing

@testable import VirtioCore

@Suite("A guest's devices are judged before its first page") struct GuestProfileTests {
  /// A driver that has set up a device of two queues.
  private func source() throws -> GuestProfile {
    var bench = try DeviceBench(EchoDevice())
    try bench.start([.version1, .eventIndex, EchoDevice.inverting])
    return profile(of: bench.host)
  }

  private func profile(of host: borrowing DeviceHost<EchoDevice>, instance: String = "") -> GuestProfile {
    var profile = GuestProfile()
    profile.add(host, instance: instance)
    profile.add(Clock.self)
    return profile
  }

  @Test("queues of which every other one is in use make few profiles, none of which leaves out one in use")
  func scatteredQueues() {
    let queues = (0..<257).map { (size: $0 == 256 ? 64 : 1024 as UInt16, isInUse: $0 % 4 < 2) }
    let profiles = QueueProfile.profiles(of: queues)
    #expect(profiles.count == 17)
    for (index, profile) in profiles.enumerated() {
      let covered = Int(profile.first)..<Int(profile.first) + Int(profile.count)
      #expect(covered.lowerBound == profiles.prefix(index).reduce(0) { $0 + Int($1.count) })
      #expect(queues[covered].allSatisfy { $0.size == profile.largestSize })
      #expect(queues[covered].contains(where: \.isInUse) == profile.isInUse)
    }
    #expect(profiles.reduce(0) { $0 + Int($1.count) } == queues.count)
  }

  private func fresh() throws -> DeviceProfile { try DeviceBench(EchoDevice()).host.profile() }

  /// What is found at a destination whose device is another than the source's.
  private func mismatches(changing change: (inout DeviceProfile) -> Void) throws -> [ProfileMismatch] {
    var here = try fresh()
    change(&here)
    var destination = GuestProfile()
    destination.add(here, of: EchoDevice.self)
    destination.add(Clock.self)
    let notes = try source().notes
    let found = destination.mismatches(with: notes)
    let words = destination.objection(to: notes)
    #expect((words == nil) == found.isEmpty)
    for mismatch in found { #expect(words?.contains(mismatch.description) == true) }
    return found
  }

  @Test("the same device that nobody has started yet fits, whatever runs at the source")
  func fits() throws {
    #expect(try mismatches { _ in } == [])
    #expect(try source().notes.map(\.name) == ["device echo", "state"])
  }

  @Test("a destination may offer more features, larger queues, more queues and read newer states")
  func more() throws {
    let found = try mismatches { (here) in
      here.offeredFeatures.insert(Feature(rawValue: 90))
      for index in here.queues.indices { here.queues[index].largestSize *= 2 }
      here.queues.append(here.queues[0])
      for index in here.states.indices { here.states[index].version += 1 }
    }
    #expect(found == [])
  }

  @Test("a feature that was offered and not taken may be missing; one that was agreed on is refused by its name")
  func features() throws {
    #expect(try mismatches { $0.offeredFeatures.remove(EchoDevice.distant) } == [])
    let found = try mismatches { (here) in
      here.offeredFeatures.remove(.eventIndex)
      here.offeredFeatures.remove(EchoDevice.inverting)
    }
    #expect(
      found == [
        .missingFeature("echo", EchoDevice.inverting, name: "bit 0"),
        .missingFeature("echo", .eventIndex, name: "EVENT_IDX"),
      ])
    #expect(
      found[1].description == "device echo: source: uses feature EVENT_IDX (bit 29); destination: does not offer it")
  }

  @Test("a queue that the driver has set up must be there, and may be as large as it was told")
  func queues() throws {
    let smaller = try mismatches { $0.queues[1].largestSize = 8 }
    #expect(smaller == [.queueTooSmall("echo", 1, source: 16, destination: 8)])
    #expect(smaller[0].description == "device echo, queue 1: source: up to 16 entries; destination: up to 8")
    let missing = try mismatches { $0.queues.removeLast() }
    #expect(missing == [.queueTooSmall("echo", 1, source: 16, destination: nil)])
    #expect(missing[0].description.hasSuffix("source: up to 16 entries; destination: no such queue"))
  }

  @Test("a queue that no driver has set up asks for nothing")
  func unusedQueues() throws {
    let bench = try DeviceBench(EchoDevice())
    var here = try fresh()
    here.queues = []
    var destination = GuestProfile()
    destination.add(here, of: EchoDevice.self)
    destination.add(Clock.self)
    #expect(destination.mismatches(with: try profile(of: bench.host).notes) == [])
  }

  @Test("a state of a newer version, or one that nobody reads, is named with both versions")
  func versions() throws {
    let older = try mismatches { $0.states[1].version = 0 }
    #expect(older == [.unreadableState("echo", of: "echo", source: 1, destination: 0)])
    let unknown = try mismatches { $0.states.removeFirst() }
    #expect(unknown == [.unreadableState("echo-host", of: "echo", source: 1, destination: nil)])
    #expect(
      unknown[0].description == "device echo, state echo-host: source: version 1; destination: does not know it")
  }

  @Test("a device of another type under the same name is refused")
  func otherType() throws {
    #expect(try mismatches { $0.type = 1 } == [.otherType("echo", source: 2, destination: 1)])
  }

  @Test("a device or state that only one side has is named, with the side")
  func missing() throws {
    let notes = try source().notes
    #expect(
      GuestProfile().mismatches(with: notes) == [
        .missingDevice("echo", at: .destination), .unreadableState("clock", of: nil, source: 3, destination: nil),
      ])
    #expect(
      try source().mismatches(with: []) == [.missingDevice("echo", at: .source), .missingState("clock", at: .source)])
    let host = try DeviceBench(EchoDevice()).host
    let second = profile(of: host, instance: "second")
    #expect(
      second.mismatches(with: notes) == [
        .missingDevice("echo", at: .destination), .missingDevice("echo/second", at: .source),
      ])
    #expect(second.objection(to: notes)?.contains("device echo: source: has one; destination: has none") == true)
  }

  @Test("what a driver was told has to be the same, or as much, if it has agreed on the feature")
  func constants() throws {
    let cases: [(DeviceConstant, UInt64?, fits: Bool)] = [
      (DeviceConstant("size", 8), 8, true), (DeviceConstant("size", 8), 9, false),
      (DeviceConstant("size", 8), nil, false),
      (DeviceConstant("size", 8, .atLeast), 9, true), (DeviceConstant("size", 8, .atLeast), 7, false),
      (DeviceConstant("size", 8, by: [EchoDevice.distant]), 9, true),
      (DeviceConstant("size", 8, by: [EchoDevice.inverting, EchoDevice.distant]), 9, false),
    ]
    for (constant, value, fits) in cases {
      var there = try fresh()
      there.features = [EchoDevice.inverting]
      there.constants = [constant]
      var here = try fresh()
      here.constants = value.map { [DeviceConstant("size", $0)] } ?? []
      var (source, destination) = (GuestProfile(), GuestProfile())
      source.add(there, of: EchoDevice.self)
      destination.add(here, of: EchoDevice.self)
      let found = destination.mismatches(with: try source.notes)
      #expect(found == (fits ? [] : [.otherConstant("echo", constant, destination: value)]))
    }
  }

  @Test("a note that cannot be read is refused, and what it says disturbs no terminal")
  func hostileNotes() throws {
    let notes = try source().notes
    for text in ["", "{}", "\u{1b}[2J", String(notes[0].text.dropLast()), notes[1].text] {
      let found = try source().mismatches(with: [.init(name: "device echo", text: text), notes[1]])
      guard case .unreadable(note: "device echo", _)? = found.first, found.count == 1 else {
        Issue.record("\(found)")
        continue
      }
      #expect(found[0].description.unicodeScalars.allSatisfy { $0.value >= 0x20 })
    }
    let strange = try source().mismatches(with: notes + [.init(name: "device \u{1b}c", text: notes[0].text)])
    #expect(strange.map(\.description) == ["device \\u001bc: source: has one; destination: has none"])
  }

  @Test("notes of others are left alone, and a long list is cut")
  func otherNotes() throws {
    let notes = try source().notes
    #expect(try source().mismatches(with: notes + [.init(name: "machine", text: "pc")]) == [])
    let many = (0..<40).map { GuestProfile.Note(name: "device \($0)", text: notes[0].text) }
    #expect(try source().objection(to: notes + many)?.hasSuffix("; 32 more") == true)
  }
}

private struct Clock: SavedState {
  static var section: String { "clock" }
  static var version: Int { 3 }

  mutating func code(with coder: inout some StateCoder) throws(StateError) {}
}
