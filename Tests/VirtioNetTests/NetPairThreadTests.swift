import Foundation
import LinuxIO
import Support
import Synchronization
import Testing
import VirtioCore
import VirtioNet

@Suite("Pairs of queues on threads") struct NetPairThreadTests {
  @Test("each packet of two pairs goes out once on its own pair's port and comes back once on its own pair, in order")
  func traffic() throws {
    let wire = try Wire()
    let bench = try PairBench(wire.ports())
    let count: UInt32 = 2000
    try bench.run(count) { $0.numbers.allSatisfy { $0.count == count } }
    for pair in 0...1 {
      #expect(wire.sentNumbers(pair) == Array(0..<count))
      #expect(bench.numbers[pair] == Array(0..<count))
    }
    #expect(bench.net.host.device.counters.transmittedPackets == UInt64(2 * count))
    #expect(bench.net.host.device.counters.drops.isEmpty)
  }

  @Test("when the last queue has stopped all that the driver sent has gone out")
  func stopping() throws {
    for _ in 0..<20 {
      let wire = try Wire()
      let bench = try PairBench(wire.ports())
      for pair in 0...1 {
        for number in 0..<UInt32(30) { #expect(try bench.send(number, pair)) }
        bench.net.host.kick(PairBench.transmitted[pair])
      }
      for queue in 0..<5 { _ = try bench.net.host.stopQueue(queue) }
      for pair in 0...1 { #expect(wire.sentNumbers(pair) == Array(0..<30)) }
    }
  }

  @Test("a port without room does not hold the stop up: what it leaves is dropped, and counted once")
  func stoppingWithoutRoom() throws {
    let wire = try Wire()
    wire.ends.withLock { $0[1].room = 3 }
    let ports = try wire.ports()
    let bench = try PairBench(ports)
    for number in 0..<UInt32(30) { #expect(try bench.send(number, 1)) }
    bench.net.host.kick(PairBench.transmitted[1])
    for queue in 0..<5 { _ = try bench.net.host.stopQueue(queue) }
    #expect(wire.sentNumbers(1) == [0, 1, 2])
    let ofCard = bench.net.host.device.counters.drops[.noReceiver] ?? 0
    #expect(ofCard + (ports[1].counters.drops[.noReceiver] ?? 0) == 27)
    // What comes of a later driver is not held back by it.
    wire.ends.withLock { $0[1].room = .max }
    #expect(ports[1].sendAll([BenchFrame.bytes(to: 1, from: 2, 99)]) == 0)
    ports[1].finishSending()
    #expect(wire.sentNumbers(1) == [0, 1, 2, 99])
  }

  @Test("a card with threads is saved in the middle of traffic and goes on elsewhere: nothing is sent twice or lost")
  func moving() throws {
    let (source, destination) = (try Wire(), try Wire())
    let bench = try PairBench(source.ports())
    let count: UInt32 = 200
    try bench.run(count) { _ in source.sentNumbers(0).count > 50 }
    // As it is saved: the next card may take more at once.
    let state = bench.net.host.device.state
    let already = state.counters.transmittedPackets
    try bench.move(to: destination.ports())
    #expect(state.pairCount == 2 && already > 50)
    // The source's threads have ended with its ports, and have sent what they had.
    let before = (0...1).map { source.sentNumbers($0) }
    #expect(UInt64(before[0].count + before[1].count) == already)
    try bench.run(100, from: count) { _ in (0...1).allSatisfy { destination.sentNumbers($0).last == count + 99 } }
    for pair in 0...1 {
      let all = before[pair] + destination.sentNumbers(pair)
      // Of the first run the driver may have stopped short.
      #expect(zip(all, all.dropFirst()).allSatisfy { $0 < $1 })
      #expect(all.filter { $0 < count } == Array(0..<UInt32(all.count { $0 < count })))
      #expect(all.suffix(100) == Array(count..<count + 100))
    }
  }

  @Test("what a card keeps for a port without room goes out when the card ends, if there is room by then")
  func ending() throws {
    let (source, destination) = (try Wire(), try Wire())
    let bench = try PairBench(source.ports())
    source.ends.withLock { $0[1].room = 0 }
    var count: UInt32 = 0
    // The card has some, and some stay in the ring, of which it has not been told since it was filled last: how much the
    // port's thread has taken by then is not known.
    for _ in 0..<8 {
      bench.net.host.kick(PairBench.transmitted[1])
      while try bench.send(count, 1) { count += 1 }
    }
    source.ends.withLock { $0[1].room = .max }
    let taken = bench.net.host.device.state.counters.transmittedPackets
    try bench.move(to: destination.ports())
    let before = source.sentNumbers(1)
    #expect(UInt64(before.count) == taken && before.count < Int(count))
    try bench.run(0) { _ in before.count + destination.sentNumbers(1).count == Int(count) }
    #expect(before + destination.sentNumbers(1) == Array(0..<count))
  }

  @Test(
    "a port that fails on its thread ends its own pair alone and is told of once; with the last one the link is down")
  func failing() throws {
    let wire = try Wire()
    let bench = try PairBench(wire.ports())
    wire.fail(0)
    try bench.run(0) { !$0.reports.all.isEmpty }
    #expect(bench.reports.all == [.disconnected("wire:0")])
    var isUp = bench.net.host.device.isLinkUp
    #expect(bench.net.host.device.failure == .disconnected("wire:0") && isUp)
    try bench.run(300) { $0.numbers[1].count == 300 }
    #expect(wire.sentNumbers(1) == Array(0..<300) && wire.sentNumbers(0).isEmpty)
    #expect(bench.numbers[1] == Array(0..<300) && bench.numbers[0].isEmpty)
    wire.fail(1)
    try bench.run(0) { $0.reports.all.count == 2 }
    #expect(bench.reports.all == [.disconnected("wire:0"), .disconnected("wire:1")])
    isUp = bench.net.host.device.isLinkUp
    #expect(!isUp)
  }

  @Test(
    "the queues of a TAP device on threads: each pair's packets reach the interface in order, and its own reach the driver",
    .enabled(if: NetworkNamespace.isAvailable, "\(NetworkNamespace.requirement)"))
  func tap() throws {
    try NetworkNamespace.run {
      let ports = try TapPort.openOnThreads(name: "vk%d", queueCount: 2)
      #expect(ports.map(\.name) == ["tap:vk0", "tap:vk0"])
      #expect(try Self.threadNames().isSuperset(of: ["net pair 0", "net pair 1"]))
      let wire = try PacketSocketPort(interface: "vk0")
      let bench = try PairBench(ports)
      var got: [UInt32] = []
      try bench.run(100) { _ in
        got += wire.receiveAll().filter { $0[12] == 8 && $0.count == 60 }.map(BenchFrame.number)
        return got.count == 200
      }
      // Which pair's comes when is up to the threads.
      #expect(got.sorted() == (0..<100).flatMap { [$0, $0] })
      var firsts: Set<UInt32> = []
      #expect(got.filter { firsts.insert($0).inserted } == Array(0..<100))
      wire.sendAll((0..<40).map { BenchFrame.bytes(to: 0x5254_0012_3456, from: 0x0200_0000_0001, $0) })
      try bench.run(0) { $0.numbers[0].count + $0.numbers[1].count == 40 }
      #expect((bench.numbers[0] + bench.numbers[1]).sorted() == Array(0..<40))
    }
  }

  private static func threadNames() throws -> Set<String> {
    let tasks = "/proc/self/task"
    // Other tests' threads come and go meanwhile.
    let names = try FileManager.default.contentsOfDirectory(atPath: tasks).compactMap {
      try? String(contentsOfFile: "\(tasks)/\($0)/comm", encoding: .utf8)
    }
    return Set(names.map { $0.trimmingCharacters(in: .newlines) })
  }

  @Test("the queues of a TAP device that somebody has made for one are not to be had on threads either")
  func oneQueue() throws {
    guard NetworkNamespace.isAvailable else { return }
    try NetworkNamespace.run {
      let alone = try TapPort.open(name: "vk0")
      let refused = portFailure { () throws(PortError) in
        _ = try TapPort.openOnThreads(name: "vk0", queueCount: 2)
      }
      #expect(refused == .oneQueue(device: "vk0") && alone.count == 1)
      #expect(
        portFailure { () throws(PortError) in _ = try TapPort.openOnThreads(name: "a/b", queueCount: 2) }
          == .illegalName("a/b"))
    }
  }
}
