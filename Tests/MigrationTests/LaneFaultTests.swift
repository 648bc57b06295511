import GuestRAM
import LinuxIO
import Support
import Testing

@testable import Migration

@Suite("Migration: faults on a further connection", .serialized) struct LaneFaultTests {
  /// Short, as some faults leave both sides waiting.
  private static let limits = DestinationLimits(mostMemory: 64 << 20, time: .milliseconds(400))
  private static let faults = [
    Fault.cutBefore, .cutWithin, .stalledWithin, .middleByteFlipped, .lastByteFlipped, .lost, .repeated, .swapped,
  ]
  /// Enough that the further connection has something to bring.
  private static let byteCount: UInt64 = 12 << 20

  /// Both sides name what failed, and the source keeps its guest.
  private func check(_ move: Move, _ what: Comment) {
    guard let sent = move.source.error, let received = move.destination.error else {
      Issue.record("unnoticed: \(what): \(move.source), \(move.destination)")
      return
    }
    #expect(sent.sourceMayRun, what)
    for error in [sent, received] {
      if case .system = error { Issue.record("unnamed (\(error)): \(what)") }
      if case .memory = error { Issue.record("blamed on memory (\(error)): \(what)") }
    }
  }

  @Test(
    "whatever happens to a message of a further connection, the guest stays whole where it is, and is moved afterwards",
    arguments: faults)
  func messages(fault: Fault) throws {
    let guest = try WideGuest(byteCount: Self.byteCount)
    let digests = try WideGuest.digests(guest.memory)
    // The opening, the number, a plan, a frame and its data, and another plan.
    for index in 0..<6 {
      // A connection that does not get so far as to bring pages cannot let the first one go on.
      let links = try LaneLinks(count: 1, source: fault.tamper(at: index), isGated: index > 1)
      check(try move(guest, over: links, limits: Self.limits), "\(fault) of message \(index)")
    }
    #expect(try WideGuest.digests(guest.memory) == digests)
    let arrived = try move(guest, over: LaneLinks(count: 1)).destination.get()
    #expect(try WideGuest.digests(arrived.guest.memory) == digests)
  }

  @Test(
    "whatever happens to the end of a pass on a further connection, the move does not end without it", arguments: faults
  )
  func barrier(fault: Fault) throws {
    let guest = try WideGuest(byteCount: Self.byteCount)
    let links = try LaneLinks(
      count: 1,
      source: { (_, message) in
        message.count >= Frame.headerByteCount && message[0] == UInt8(FrameKind.barrier.rawValue)
          ? fault.tamper(at: 0)(0, message) : nil
      })
    let move = try move(guest, over: links, limits: Self.limits)
    // What comes after the end is not looked at.
    if fault == .repeated {
      #expect(move.destination.value != nil && move.source.value?.isVerified == true)
    } else {
      check(move, "\(fault)")
    }
  }
}
