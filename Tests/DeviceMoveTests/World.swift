import GuestRAM
import LinuxIO
import Migration
import SimulatedGuest
import Support
import Testing
import VirtioBlk
import VirtioCore
import VirtioNet

/// What a guest's sides share, and what its operator does to it.
final class World {
  let network = LearningSwitch()
  let peer: NumberedPeer
  private let directory: TemporaryDirectory
  private let makeStore: @Sendable (_ directory: String) throws(StoreError) -> any BlockStore
  private(set) var machine: Machine
  private(set) var moveCount = 0
  /// Packets for the guest that came where it was no more.
  private(set) var latePacketCount: UInt64 = 0
  /// How many requests had been made and not answered when the guest was stopped, over all moves.
  private(set) var inFlightCount: UInt64 = 0

  static let limits: DestinationLimits = {
    var limits = DestinationLimits(mostMemory: 64 << 20, time: patience)
    limits.mostFiles = 4
    return limits
  }()

  /// Boots a guest on the first side.
  /// - Parameter makeStore: opens the disk, which all sides share.
  init(
    seed: UInt64, _ makeStore: @escaping @Sendable (_ directory: String) throws(StoreError) -> any BlockStore
  ) throws {
    directory = try TemporaryDirectory()
    peer = try NumberedPeer(on: network)
    self.makeStore = makeStore
    let path = directory.path
    let side = try Side("side 0", on: network) { () throws(StoreError) in try makeStore(path) }
    var configuration = GuestConfiguration(seed: seed, diskPages: 32, workingSetPages: 256, workload: .dirtying)
    configuration.pagesPerStep = 4
    configuration.block.blockCount = 128
    configuration.net.packetsPerStep = 2
    machine = try Machine(configuration, pageCount: 2048, side)
  }

  deinit {
    machine.runner.end()
    peer.end()
  }

  // MARK: - Moving

  func makeSide(_ name: String) throws -> Side {
    let (path, makeStore) = (directory.path, makeStore)
    return try Side(name, on: network) { () throws(StoreError) in try makeStore(path) }
  }

  /// Moves the guest while it works, to new devices that have what the old ones had.
  /// - Parameter operate: what the operator does once all stands still.
  @discardableResult
  func move(_ way: Way, operate: @escaping (Side) throws -> Void = { _ in }) throws -> MigrationReport {
    moveCount += 1
    let there = try makeSide("side \(moveCount)")
    let old = machine
    let arrival = try Handover<Result<Machine, MoveFailure>>()
    let address = MigrationAddress.unix(path: directory.path + "/move-\(moveCount)")
    let listener = try MigrationListener(address)
    let receiving: @Sendable () -> Void = {
      arrival.put(
        Result { try Self.receive(on: there, over: listener.accept(within: patience)) }
          .mapError { MoveFailure("\($0)") })
    }
    let receiver = try Thread(name: "destination", receiving)
    let link = try MigrationLink.connect(to: address, within: patience)
    let report = try way.send(old, over: link) { (side) in
      let (issued, completed) = try old.runner.ask { try $0.block?.requestCounts() ?? (0, 0) }
      self.inFlightCount += issued - completed
      try operate(side)
    }
    receiver.join()
    machine = try arrival.wait().get()
    old.runner.end()
    // What the peer has sent before it knew is where the guest was.
    peer.finishTurn()
    latePacketCount += try old.side.leave()
    return report
  }

  static func receive<Link: Channel>(on side: Side, over link: Link) throws -> Machine {
    var destination = Destination(link, producer: "B", limits: limits)
    let arrived = try destination.receive()
    let machine: Machine
    do {
      machine = try Machine(arrived, side)
    } catch {
      destination.refuse("\(error)")
      throw error
    }
    var failure: (any Error)?
    do {
      _ = try destination.confirm {
        do { try machine.resume() } catch { failure = error }
      }
    } catch {
      machine.runner.end()
      throw error
    }
    if let failure { throw failure }
    return machine
  }

  /// A move that its destination refuses once all is there.
  func fail(_ way: Way) throws {
    let address = MigrationAddress.unix(path: directory.path + "/refused")
    let listener = try MigrationListener(address)
    let receiving: @Sendable () -> Void = {
      do throws(MigrationError) {
        var destination = Destination(try listener.accept(within: patience), producer: "B", limits: Self.limits)
        _ = try destination.receive()
        destination.refuse("no room")
      } catch {
        Issue.record(error)
      }
    }
    let receiver = try Thread(name: "destination", receiving)
    let link = try MigrationLink.connect(to: address, within: patience)
    #expect(throws: MigrationError.self) { try way.send(self.machine, over: link) { _ in } }
    receiver.join()
    // One that was stopped before it was sent is its owner's to start again.
    if way == .standing { try machine.resume() }
  }

  // MARK: - Looking

  /// Returns once disk and wire have done something since the call, both ways.
  func work() throws {
    let runner = machine.runner
    let before = try runner.ask { (try $0.block?.requestCounts().completed ?? 0, try $0.net?.counts()) }
    let hasWorked = try runner.wait { (guest) in
      guard let net = try guest.net?.counts(), let block = try guest.block?.requestCounts() else { return false }
      return block.completed >= before.0 + 100 && net.received >= (before.1?.received ?? 0) + 25
        && net.taken >= (before.1?.taken ?? 0) + 25
    }
    #expect(hasWorked, "disk and wire go on")
  }

  /// Ends all requests and packets, and compares what the guest has in memory, on disk and on the wire with what must be
  /// there.
  func check(readBlock: (UInt64) throws -> [UInt8]) throws {
    peer.stopSending()
    let runner = machine.runner
    try runner.ask { try $0.rest(true) }
    #expect(try runner.wait { try $0.isAnswered() }, "a request or a packet was never answered")
    let guest = try settledCounts()
    let integrity = try runner.ask { try $0.checkIntegrity() }
    #expect(integrity.isIntact, "\(integrity.mismatch?.description ?? "")")
    try checkWire(guest)
    try runner.pause()
    try machine.side.group.pause(within: patience)
    try checkCounters()
    try machine.side.block.letGo()
    try checkDisk(readBlock)
  }

  /// What the guest has counted once nothing is under way any more.
  private func settledCounts() throws -> NetDriver.Counts {
    let runner = machine.runner
    peer.finishTurn()
    var last: NetDriver.Counts?
    while true {
      try runner.waitForSteps(20)
      guard let now = try runner.ask({ try $0.net?.counts() }) else { throw MoveFailure("the guest has no card") }
      let received = peer.counts.received
      if now == last, received == now.sent { return now }
      if peer.counts.fault != nil { return now }
      last = now
    }
  }

  private func checkWire(_ guest: NetDriver.Counts) throws {
    let peer = peer.counts
    #expect(peer.fault == nil)
    #expect(peer.received == guest.sent, "everything that the guest has sent has gone out")
    let here = try machine.side.net.call { (host) in
      host.device.counters.drops.values.reduce(0, +) + (host.device.ports[0].counters.drops[.queueFull] ?? 0)
    }
    let missing = peer.sent - guest.received
    #expect(missing <= latePacketCount + (here ?? 0), "only what is counted is lost")
    #expect(peer.announcements >= moveCount, "each move was announced")
  }

  /// Whoever counts what was done, and whoever counts what was answered, agree.
  private func checkCounters() throws {
    guard let guest = try machine.runner.ask({ try $0.block?.answerCounts() }),
      let device = try machine.side.block.call({ $0.device.counters })
    else { throw MoveFailure("there is no disk") }
    #expect(device.reads == guest.reads)
    #expect(device.writes == guest.writes)
    #expect(device.flushes == guest.flushes)
    #expect(device.failures == 0 && device.unsupported == 0)
  }

  private func checkDisk(_ readBlock: (UInt64) throws -> [UInt8]) throws {
    let sequences = try machine.runner.ask { (guest) in
      try (0..<(guest.block?.blockCount ?? 0)).map { try guest.block?.sequence(ofBlock: $0, in: .completed) ?? 0 }
    }
    for (block, sequence) in sequences.enumerated() {
      let content = BlockContent(block: UInt64(block), sequence: sequence)
      #expect(try readBlock(UInt64(block) * 4096) == content.bytes, "block \(block) on the medium")
    }
  }

  var path: String { directory.path }
}
