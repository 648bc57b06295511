import Balloon
import DeviceState
import GuestRAM
import Support
import Testing
import VirtioCore

/// Notes which pages it is told of.
struct NotingReclaimer: PageReclaimer {
  var taken: [GuestRange] = []

  mutating func giveUp(_ range: GuestRange, of memory: GuestMemory) throws(GuestMemoryError) -> UInt64 {
    taken.append(range)
    return range.byteCount
  }

  mutating func release(_ range: GuestRange, of memory: GuestMemory) throws(GuestMemoryError) -> UInt64 {
    taken.append(range)
    return range.byteCount
  }

  mutating func takeBack(_ range: GuestRange, of memory: GuestMemory) {}
  mutating func reset() {}
}

/// The moments of a balloon.
enum BalloonMoments {
  typealias Device = BalloonDevice<NotingReclaimer>
  private typealias Bench = DeviceBench<Device>
  /// With all features: inflate, deflate, statistics, hinting, reporting.
  private static let plain: Features = [
    .version1, .indirectDescriptors, .statisticsQueue, .freePageHint, .pagePoison, .pageReporting, .mustTellHost,
  ]

  static let all = made + ["balloon-uml-load"].map { moment($0, nil) }

  private static let made: [Moment] = [
    moment("balloon-started") { _ in },
    moment("balloon-not-started", isStarted: false) { bench in
      bench.host.update { $0.setTarget(BalloonTarget(pageCount: 7)) }
    },
    moment("balloon-inflating") { bench in
      bench.host.update { $0.setTarget(BalloonTarget(pageCount: 32)) }
      for number in 0..<3 { try frames(&bench, number) }
      try bench.host.writeConfig(little(UInt32(12)), at: 4)
      bench.host.pause()
      for number in 3..<6 { try frames(&bench, number) }
    },
    moment("balloon-deflating") { bench in
      for number in 0..<4 { try frames(&bench, number) }
      bench.host.pause()
      for number in 0..<3 { try frames(&bench, number, queue: 1) }
    },
    moment("balloon-wrapped", index: 65_534) { bench in
      for number in 0..<5 { try frames(&bench, number) }
      bench.host.pause()
      for number in 5..<8 { try frames(&bench, number) }
    },
    moment("balloon-statistics-held") { bench in
      try statistics(&bench, 1)
    },
    moment("balloon-statistics-requested") { bench in
      try statistics(&bench, 1)
      bench.host.update { $0.requestStatistics() }
    },
    moment("balloon-hinting-requested") { bench in
      _ = try bench.host.update { (device) throws(BalloonError) in try device.startHinting() }
    },
    moment("balloon-hinting-active") { bench in
      let round = try bench.host.update { (device) throws(BalloonError) in try device.startHinting() }
      try send(&bench, little(round), queue: 3)
      bench.host.pause()
      try bench.rings[3].send([.writable(bench.heap + 0x10000, 0x4000)])
      bench.host.kick(3)
    },
    moment("balloon-hinting-ended") { bench in
      let round = try bench.host.update { (device) throws(BalloonError) in try device.startHinting() }
      try send(&bench, little(round), queue: 3)
      try send(&bench, little(UInt32(0)), queue: 3)
    },
    moment("balloon-reporting") { bench in
      bench.host.pause()
      for number in 0..<3 { try bench.rings[4].send([.writable(bench.heap + UInt64(number + 8) * 0x1000, 0x1000)]) }
      bench.host.kick(4)
    },
    moment("balloon-in-order", features: plain.union([.inOrder])) { bench in
      for number in 0..<3 { try frames(&bench, number, kicks: number == 2) }
      bench.host.pause()
      for number in 3..<5 { try frames(&bench, number) }
    },
    moment("balloon-after-reset") { bench in
      bench.host.update { $0.setTarget(BalloonTarget(pageCount: 32)) }
      for number in 0..<3 { try frames(&bench, number) }
      try bench.host.writeStatus([])
    },
  ]

  private static func device(largestQueue: UInt16 = 32) -> Device {
    var options = BalloonOptions()
    options.deflateOnOutOfMemory = true
    options.leastQueueSize = max(32, largestQueue)
    return Device(options, reclaimer: NotingReclaimer()) { 1_000_000_000_000 }
  }

  private static func moment(
    _ name: String, features: Features = plain, index: UInt16 = 0, isStarted: Bool = true,
    _ story: @escaping @Sendable (inout DeviceBench<Device>) throws -> Void
  ) -> Moment {
    moment(name) {
      var bench = try Bench(device(), ringSize: 16, index: index)
      if isStarted { try bench.start(features) } else { try bench.host.attach(bench.memory) }
      try story(&bench)
      bench.host.pause()
      return try bench.image()
    }
  }

  private static func moment(_ name: String, _ take: (@Sendable () throws -> Snapshot)?) -> Moment {
    Moment(name: name, take: take) { snapshot in
      try goOn(snapshot)
    } restore: { snapshot in
      try StateFixtureTests.restore(device(for: snapshot), from: snapshot)
    }
  }

  private static func device(for snapshot: Snapshot) -> Device {
    let queues = (try? snapshot.read(HostState<BalloonState>.self))?.queues ?? []
    return device(largestQueue: queues.map(\.size).filter { $0.nonzeroBitCount == 1 }.max() ?? 32)
  }

  private static func send(
    _ bench: inout DeviceBench<Device>, _ bytes: [UInt8], queue: Int, room: UInt64 = 0x8000, kicks: Bool = true
  ) throws {
    try bench.memory.write(bytes: bytes, at: GuestAddress(bench.heap + room))
    _ = try bench.rings[queue].send([.readable(bench.heap + room, UInt32(bytes.count))])
    if kicks { bench.host.kick(queue) }
  }

  /// Four page frames of their own for each number.
  private static func frames(
    _ bench: inout DeviceBench<Device>, _ number: Int, queue: Int = 0, kicks: Bool = true
  ) throws {
    let first = UInt32(bench.heap / 4096) + 16 + UInt32(number * 4)
    try send(
      &bench, (first..<first + 4).flatMap { little($0) }, queue: queue,
      room: UInt64(number) * 64 + UInt64(queue) * 1024,
      kicks: kicks)
  }

  private static func statistics(_ bench: inout DeviceBench<Device>, _ value: UInt64) throws {
    try send(&bench, little(UInt16(4)) + little(value << 20) + little(UInt16(5)) + little(value << 30), queue: 2)
  }

  // MARK: - Going on

  private static func goOn(_ snapshot: Snapshot) throws {
    let model = try snapshot.read(BalloonState.self)
    var resumed = try Resumed(device(for: snapshot), from: snapshot)
    #expect(resumed.host.device.state == model)
    #expect(resumed.host.readConfig(at: 0, byteCount: 8) == little(model.targetPages) + little(model.actualPages))
    let roles = resumed.host.device.queueRoles
    let statistics = roles.index(of: .statistics)
    let waiting = try pages(in: resumed, roles)
    resumed.host.resume()
    #expect(resumed.host.isBroken == false)
    for (queue, ring) in resumed.rings where queue != statistics {
      #expect(try Int(resumed.usedCount(queue)) == ring.waitingHeads.count, "queue \(queue) gives everything back")
    }
    let taken = resumed.host.device.reclaimer.taken
    for page in waiting { #expect(taken.contains { $0.contains(page) }, "page \(page) went back to the host") }
    if let statistics { try checkStatistics(&resumed, statistics, model) }
    try inflate(&resumed)
  }

  /// The pages that waiting chains of inflating and reporting name.
  private static func pages(in resumed: borrowing Resumed<Device>, _ roles: BalloonQueues) throws -> [UInt64] {
    var pages: [UInt64] = []
    if let ring = roles.index(of: .inflate).flatMap({ resumed.rings[$0] }) {
      let bytes = try ring.waitingHeads.flatMap { try resumed.bytes(ring.buffers(of: $0)) }
      pages += stride(from: 0, to: bytes.count, by: 4).map { UInt64(bytes.integer(UInt32.self, at: $0)) << 12 }
    }
    if let ring = roles.index(of: .reporting).flatMap({ resumed.rings[$0] }) {
      pages += try ring.waitingHeads.flatMap { try ring.buffers(of: $0).map(\.address.rawValue) }
    }
    return pages
  }

  /// 5.5.6.3: a buffer of statistics is kept until new ones are wanted, and comes back once.
  private static func checkStatistics(
    _ resumed: inout Resumed<Device>, _ queue: Int, _ model: BalloonState
  ) throws {
    guard let ring = resumed.rings[queue] else { return }
    #expect(try resumed.usedCount(queue) == 0 || model.statisticsRequested)
    resumed.host.update { $0.requestStatistics() }
    resumed.host.wake()
    #expect(try Int(resumed.usedCount(queue)) == ring.waitingHeads.count)
  }

  /// One more request, as if nothing had been.
  private static func inflate(_ resumed: inout Resumed<Device>) throws {
    guard resumed.rings[0] != nil else { return }
    let room = resumed.scratch
    let before = try resumed.usedCount(0)
    try resumed.memory.write(bytes: little(UInt32(room >> 12) + 1), at: GuestAddress(room))
    _ = try resumed.rings[0]?.send([.readable(room, 4)])
    resumed.host.kick(0)
    #expect(try resumed.usedCount(0) == before + 1)
    #expect(resumed.host.device.reclaimer.taken.last?.contains(room + 0x1000) == true)
  }
}

extension GuestRange {
  fileprivate func contains(_ address: UInt64) -> Bool {
    address >= start.rawValue && address - start.rawValue < byteCount
  }
}
