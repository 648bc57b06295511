import LinuxIO
import Migration
import Support
import Testing
import VirtioBlk

@Suite("Devices on a move that fails", .serialized) struct DeviceFaultTests {
  @Test(
    "whatever breaks before the guest is given away, it goes on with its disk and card, and is moved afterwards",
    arguments: DeviceMoveTests.ways)
  func goesOn(_ way: Way) throws {
    let world = try World(seed: SeededGenerator(for: "DeviceFaultTests.goesOn \(way)").seed) {
      (path) throws(StoreError) in try DeviceMoveTests.openImage(in: path)
    }
    try world.work()
    for fault in way.faults {
      try world.fail(way, fault)
      try world.work()
    }
    try world.move(way)
    try world.work()
    try world.checkImage()
  }
}

extension Way {
  /// The frames that a source sends before it gives the guest away, and some of the answers.
  fileprivate var faults: [FrameFault] {
    let sent: [FrameKind] =
      switch self {
      case .live: [.description, .pages, .pass, .state, .complete]
      case .standing: [.description, .pages, .state, .complete]
      case .following: [.description, .outstanding, .state, .complete]
      case .followingAfterPass: [.description, .pages, .state, .complete]
      case .handedOver: [.handOver, .files, .state, .complete]
      }
    let answered: [FrameKind] = self == .live ? [.accept, .digests, .ready] : [.accept, .ready]
    return FrameFault.Effect.allCases.flatMap { (effect) in
      sent.map { FrameFault(effect: effect, kind: $0, isSource: true) }
        + answered.map { FrameFault(effect: effect, kind: $0, isSource: false) }
    }
  }
}

extension World {
  /// A move in which a frame comes to grief: both sides hear of it, and the guest stays.
  fileprivate func fail(_ way: Way, _ fault: FrameFault) throws {
    let there = try makeSide("side \(moveCount), \(fault.effect) of \(fault.kind)")
    let address = MigrationAddress.unix(path: path + "/\(fault.effect)-\(fault.kind.rawValue)")
    let listener = try MigrationListener(address)
    let failure = try Handover<(any Error)?>()
    let receiving: @Sendable () -> Void = {
      failure.put(
        Self.failure {
          let link = FaultyLink(try listener.accept(within: patience), fault.isSource ? nil : fault)
          try Self.receive(on: there, over: link).runner.end()
        })
    }
    let receiver = try Thread(name: "destination", receiving)
    let link = FaultyLink(try MigrationLink.connect(to: address, within: patience), fault.isSource ? fault : nil)
    let error = Self.failure { _ = try way.send(machine, over: link) { _ in } } as? MigrationError
    receiver.join()
    // Without it there is nothing to go on with.
    try #require(error?.sourceMayRun == true, "\(fault): \(String(describing: error))")
    #expect(failure.wait() is MigrationError, "\(fault)")
    // One that was stopped before it was sent is its owner's to start again.
    if way == .standing { try machine.resume() }
    _ = try there.leave()
  }

  private static func failure(_ body: () throws -> Void) -> (any Error)? {
    do {
      try body()
      return nil
    } catch {
      return error
    }
  }
}
