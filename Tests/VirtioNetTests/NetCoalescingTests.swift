import GuestRAM
import Support
import Testing
import VirtioCore
import VirtioNet
import Virtqueue

/// When a driver is told that has asked to be told less often.
@Suite("Net: held notifications")
struct NetCoalescingTests {
  private static let features = NetControlTests.all.union([.netQueueNotificationCoalescing, .ringReset])
  private static let hour: UInt32 = 3_600_000_000

  /// What the device has asked of its transport.
  private final class Reminders {
    var all: [Duration] = []
  }

  private let port = ScriptedPort()
  private let reminders = Reminders()

  private func bench(_ features: Features = features, pairs: Int = 1, queues: [Int]? = nil) throws -> NetBench {
    var bench = try NetBench.card(port, pairs: pairs)
    bench.host.remind = { [reminders] in reminders.all.append($0) }
    try bench.start(features, queues: queues)
    return bench
  }

  /// `VIRTIO_NET_CTRL_NOTF_COAL_TX_SET`, `VIRTIO_NET_CTRL_NOTF_COAL_RX_SET`
  private func all(isReceive: Bool, _ packets: UInt32, _ microseconds: UInt32) -> [UInt8] {
    [6, isReceive ? 1 : 0] + little(packets) + little(microseconds)
  }

  /// `VIRTIO_NET_CTRL_NOTF_COAL_VQ_SET`, with something in the reserved field.
  private func one(_ queue: UInt16, _ packets: UInt32, _ microseconds: UInt32) -> [UInt8] {
    [6, 2] + little(queue) + [0xAA, 0x55] + little(packets) + little(microseconds)
  }

  /// A card with one pair whose driver has asked for so much before it is told of what it has sent.
  private func holding(_ packets: UInt32, _ microseconds: UInt32 = hour) throws -> NetBench {
    var bench = try bench()
    #expect(try bench.command(all(isReceive: false, packets, microseconds)) == 0)
    try begin(&bench)
    return bench
  }

  /// Sends the first packet, of which the driver is always told: nobody knows what it was told before the start.
  private func begin(_ bench: inout NetBench) throws {
    try send(1, &bench)
    #expect(bench.notifications.take().contains(.queue(1)))
    _ = try bench.rings[1].takeAllUsed()
  }

  private func send(_ count: Int, _ bench: inout NetBench, queue: Int = 1) throws {
    for _ in 0..<count { try bench.transmit(plainHeader + frame(), queue: queue) }
  }

  @Test("5.1.6.5.9.1: the driver is told once so many packets have been sent, and then again after as many")
  func packets() throws {
    var bench = try holding(4)
    for _ in 0..<3 {
      try send(3, &bench)
      #expect(bench.notifications.take() == [])
      try send(1, &bench)
      #expect(bench.notifications.take() == [.queue(1)])
    }
    #expect(port.sent.count == 13)
    #expect(try bench.rings[1].takeAllUsed().count == 12, "what is used is visible all the time")
    #expect(reminders.all.allSatisfy { $0 > .zero && $0 <= .seconds(3600) })
  }

  @Test("5.1.6.5.9.1: received packets likewise, and each kind of queue by itself")
  func received() throws {
    var bench = try bench()
    #expect(try bench.command(all(isReceive: true, 3, Self.hour)) == 0)
    try bench.offer(8, of: 2048)
    bench.host.kick(0)
    bench.notifications.all = []
    for expected in [[], [], [.queue(0)], []] as [[DeviceNotification]] {
      port.waiting = [ScriptedPort.Packet(frame: frame())]
      bench.host.wake()
      #expect(bench.notifications.take() == expected)
    }
    try send(1, &bench)
    #expect(bench.notifications.take() == [.queue(1)])
  }

  @Test("5.1.6.5.9.1: without both limits the driver is told after every packet", arguments: [(0, 0), (0, 9), (9, 0)])
  func zero(packets: UInt32, microseconds: UInt32) throws {
    var bench = try holding(packets, microseconds)
    for _ in 0..<3 {
      try send(1, &bench)
      #expect(bench.notifications.take() == [.queue(1)])
    }
    #expect(reminders.all.isEmpty)
  }

  @Test("5.1.6.5.9.1: the driver is told when the time is up, for which the transport is asked to remind once")
  func time() throws {
    var bench = try holding(64, 1000)
    try send(1, &bench)
    // A slow machine may have needed all the time for that.
    if bench.notifications.all.isEmpty { #expect(reminders.all.count == 1) }
    var calls = 0
    while bench.notifications.all.isEmpty, calls < 100_000_000 {
      bench.host.sendHeldNotifications()
      calls += 1
    }
    #expect(bench.notifications.take() == [.queue(1)])
    bench.host.sendHeldNotifications()
    #expect(bench.notifications.take() == [])
  }

  @Test("one reminder is out at a time, and another only for an earlier moment")
  func reminding() throws {
    var bench = try bench(Self.features.union([.netMultiqueue]), pairs: 2)
    for (queue, hours) in [(1, 1), (3, 1), (0, 2)] as [(UInt16, UInt32)] {
      #expect(try bench.command(one(queue, 64, Self.hour / 2 * hours), queue: 4) == 0)
    }
    for queue in [1, 3, 1, 3] { try send(1, &bench, queue: queue) }
    #expect(reminders.all.count == 1)
    #expect(try bench.command(one(3, 64, Self.hour / 4), queue: 4) == 0)
    #expect(reminders.all.count == 2 && reminders.all[1] < reminders.all[0])
  }

  @Test("2.7.7: a notification that the driver does not want is not sent, though it is due", arguments: [true, false])
  func suppressed(byIndex: Bool) throws {
    var bench = try bench(Self.features.union(byIndex ? [.eventIndex] : []))
    #expect(try bench.command(all(isReceive: false, 2, Self.hour)) == 0)
    try send(2, &bench)
    bench.notifications.all = []
    if byIndex {
      try bench.rings[1].setUsedEvent(4)
    } else {
      try bench.rings[1].setInterruptsUnwanted(true)
    }
    try send(2, &bench)
    #expect(bench.notifications.take() == [])
    if !byIndex { try bench.rings[1].setInterruptsUnwanted(false) }
    try send(2, &bench)
    #expect(bench.notifications.take() == [.queue(1)])
  }

  @Test("5.1.6.5.9.4: when the limits change, the driver is told at once of what has reached the new ones")
  func change() throws {
    for (packets, microseconds) in [(8, Self.hour), (0, 0), (64, 0)] as [(UInt32, UInt32)] {
      var bench = try holding(15)
      try send(10, &bench)
      #expect(try bench.command(all(isReceive: false, 11, Self.hour)) == 0)
      #expect(!bench.notifications.take().contains(.queue(1)))
      #expect(try bench.command(all(isReceive: false, packets, microseconds)) == 0)
      #expect(bench.notifications.take().contains(.queue(1)))
    }
  }

  @Test("a ring of which every buffer is used is told of, whatever the limits")
  func allBuffers() throws {
    var bench = try holding(.max, .max)
    for number in 1...64 {
      try send(1, &bench)
      #expect(bench.notifications.take() == (number == 64 ? [.queue(1)] : []))
    }
  }

  @Test("a transport that cannot be asked to remind has nothing held")
  func noReminder() throws {
    var bench = try holding(4)
    bench.host.remind = nil
    try send(1, &bench)
    #expect(bench.notifications.take() == [.queue(1)])
  }

  @Test("what is held is sent when the queue stops, is disabled or moves, and when the device pauses")
  func released() throws {
    let ends: [(inout NetBench) throws -> Void] = [
      { _ = try $0.host.stopQueue(1) }, { try $0.host.setEnabled(1, false) }, { try $0.host.attach($0.memory) },
      { $0.host.pause() },
    ]
    for end in ends {
      var bench = try holding(4)
      try send(3, &bench)
      #expect(bench.notifications.take() == [])
      try end(&bench)
      #expect(bench.notifications.take() == [.queue(1)])
      bench.host.sendHeldNotifications()
      #expect(bench.notifications.take() == [])
    }
  }

  @Test("2.6.1, 2.4: what is held of a queue or device that is reset is forgotten", arguments: [true, false])
  func forgotten(isWholeDevice: Bool) throws {
    var bench = try holding(4)
    try send(3, &bench)
    if isWholeDevice { try bench.host.writeStatus([]) } else { try bench.host.resetQueue(1) }
    bench.host.sendHeldNotifications()
    #expect(bench.notifications.take() == [])
  }

  @Test("a broken device holds nothing back")
  func broken() throws {
    var bench = try holding(4)
    try send(3, &bench)
    try bench.rings[2].publish(index: 1000)
    bench.host.kick(2)
    #expect(bench.host.failure != nil)
    #expect(bench.notifications.take().contains(.queue(1)))
  }
}

/// The limits themselves.
extension NetCoalescingTests {
  /// `VIRTIO_NET_CTRL_NOTF_COAL_VQ_GET`; nil when it is refused.
  private func limits(_ queue: UInt16, _ bench: inout NetBench, control: Int = 4) throws -> [UInt32]? {
    let start = bench.heap + 0x3E000
    let answer = GuestAddress(start + 16)
    try bench.memory.write(bytes: [6, 3] + little(queue) + [1, 2], at: GuestAddress(start))
    try bench.memory.write(bytes: [UInt8](repeating: 0xEE, count: 9), at: answer)
    try bench.rings[control].send([.readable(start, 6), .writable(start + 16, 9)])
    bench.host.kick(control)
    let used = try #require(try bench.rings[control].takeUsed())
    guard used.byteCount == 9, try bench.memory.read(UInt8.self, at: GuestAddress(start + 24)) == 0 else { return nil }
    return try [
      bench.memory.read(UInt32.self, at: answer), bench.memory.read(UInt32.self, at: GuestAddress(start + 20)),
    ]
  }

  private func pairs() throws -> NetBench { try bench(Self.features.union([.netMultiqueue]), pairs: 2) }

  private func everyLimit(_ bench: inout NetBench) throws -> [[UInt32]?] {
    try (0..<4).map { try limits($0, &bench) }
  }

  @Test("5.1.6.5.9: what was set last applies, be it for one queue or for all of its kind")
  func last() throws {
    var bench = try pairs()
    #expect(try everyLimit(&bench) == [[0, 0], [0, 0], [0, 0], [0, 0]])
    let steps: [([UInt8], [[UInt32]])] = [
      (all(isReceive: true, 1, 2), [[1, 2], [0, 0], [1, 2], [0, 0]]),
      (one(0, 3, 4), [[3, 4], [0, 0], [1, 2], [0, 0]]),
      (one(1, 5, 6), [[3, 4], [5, 6], [1, 2], [0, 0]]),
      (all(isReceive: false, 7, 8), [[3, 4], [7, 8], [1, 2], [7, 8]]),
      (one(3, 9, 9), [[3, 4], [7, 8], [1, 2], [9, 9]]),
      (one(3, 0, 0), [[3, 4], [7, 8], [1, 2], [0, 0]]),
      (all(isReceive: true, 0, 0), [[0, 0], [7, 8], [0, 0], [0, 0]]),
    ]
    for (command, expected) in steps {
      #expect(try bench.command(command, queue: 4) == 0)
      #expect(try everyLimit(&bench) == expected)
    }
  }

  @Test(
    "5.1.6.5.9.6: the control queue, queues that are not there or not enabled, and what was not negotiated are refused")
  func refused() throws {
    var bench = try pairs()
    for queue in [4, 5, 0xFFFF] as [UInt16] {
      #expect(try bench.command(one(queue, 1, 1), queue: 4) == 1)
      #expect(try limits(queue, &bench) == nil)
    }
    try bench.host.resetQueue(3)
    #expect(try bench.command(one(3, 1, 1), queue: 4) == 1)
    #expect(try limits(3, &bench) == nil)
    #expect(try bench.command(one(2, 1, 1) + [0], queue: 4) == 1)
    #expect(try bench.command(Array(one(2, 1, 1).dropLast()), queue: 4) == 1)
    var other = try self.bench(Self.features.subtracting([.netQueueNotificationCoalescing]))
    #expect(try other.command(one(0, 1, 1), queue: 2) == 1)
    other = try self.bench(Self.features.subtracting([.netNotificationCoalescing]))
    #expect(try other.command(all(isReceive: true, 1, 1), queue: 2) == 1)
    #expect(try other.command(one(0, 1, 1), queue: 2) == 0)
    #expect(try limits(2, &other, control: 2) == nil)
  }

  @Test("5.1.6.5.9.6: a queue that was disabled and enabled has the limits of all of its kind again")
  func enabledAgain() throws {
    var bench = try pairs()
    #expect(try bench.command(all(isReceive: false, 7, 8), queue: 4) == 0)
    for queue in [1, 2] as [UInt16] {
      #expect(try bench.command(one(queue, 5, 6), queue: 4) == 0)
      let index = bench.rings[Int(queue)].availableIndex
      try bench.host.resetQueue(Int(queue))
      try bench.host.startQueue(Int(queue), bench.rings[Int(queue)].configuration(nextAvailable: index))
    }
    #expect(try everyLimit(&bench) == [[0, 0], [7, 8], [0, 0], [7, 8]])
  }

  @Test("a queue that rests while the guest is paused keeps its own limits")
  func rested() throws {
    var bench = try bench(Self.features.subtracting([.ringReset]))
    #expect(try bench.command(one(1, 5, 6), queue: 2) == 0)
    let index = try bench.host.stopQueue(1)
    try bench.host.startQueue(1, bench.rings[1].configuration(nextAvailable: index))
    #expect(try limits(1, &bench, control: 2) == [5, 6])
  }

  @Test("5.1.6.5.9.6: a reset sets all limits to 0")
  func reset() throws {
    var bench = try pairs()
    #expect(try bench.command(all(isReceive: false, 7, 8), queue: 4) == 0)
    #expect(try bench.command(one(0, 7, 8), queue: 4) == 0)
    try bench.host.writeStatus([])
    for queue in 0..<4 { #expect(bench.host.device.notificationLimits(of: queue) == nil) }
  }

  @Test("limits apply where the card goes on, to all queues and to one")
  func moved() throws {
    var bench = try bench()
    #expect(try bench.command(all(isReceive: true, 2, Self.hour)) == 0)
    #expect(try bench.command(one(1, 3, Self.hour), queue: 2) == 0)
    try begin(&bench)
    try send(2, &bench)
    #expect(!bench.notifications.take().contains(.queue(1)))
    var other = try bench.moved(to: ScriptedPort())
    #expect(bench.notifications.take().contains(.queue(1)))
    other.host.remind = { _ in }
    #expect(try limits(0, &other, control: 2) == [2, Self.hour])
    #expect(try limits(1, &other, control: 2) == [3, Self.hour])
    other.notifications.all = []
    for expected in [[], [], [.queue(1)], []] as [[DeviceNotification]] {
      try send(1, &other)
      #expect(other.notifications.take() == expected)
    }
  }
}
