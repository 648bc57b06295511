import GuestRAM
import LinuxIO
import Support
import Testing

@testable import Migration

@Suite("Migration: when a guest is stopped") struct SwitchoverTests {
  private let sample: SampleGuest

  init() throws {
    sample = try SampleGuest()
  }

  @Test("a guest that could be stopped is not before somebody allows it, and what it writes meanwhile is sent")
  func permit() throws {
    let permit = SwitchoverPermit()
    var calls = [Int]()
    let written = pages(0x40000 + 100, 60)
    let guest = ScriptedGuest(sample, habit: .fill(written, with: 5))
    let links = try TestLinks()
    let received = try Handover<Outcome<ArrivedGuest>>()
    let thread = try Thread(name: "destination") {
      received.put(
        outcome { () throws(MigrationError) in
          var destination = Destination(links.destination, producer: "destination", limits: limits)
          let guest = try destination.receive()
          _ = try destination.confirm()
          return guest
        })
    }
    var moved = guest
    // A pass is due four times in the time that the destination waits.
    let report = try Source(links.source, producer: "source", timeLimit: .milliseconds(400))
      .move(&moved, awaiting: permit) { (event) in
        switch event {
        case .waiting: calls.append(-1)
        case .pass(let number, _):
          calls.append(number)
          if number == 4 { permit.allow() }
        case .stopping: calls.append(0)
        default: break
        }
      }
    thread.join()
    #expect(calls == [1, -1, 2, 3, 4, 0])
    #expect(report.passes.count == 4)
    let arrived = try #require(received.wait().value)
    #expect(try arrived.memory.readBytes(4096, at: written.start) == [UInt8](repeating: 5, count: 4096))
  }

  @Test("calling off a move that waits for permission ends it")
  func calledOff() throws {
    let cancellation = try Cancellation()
    let permit = SwitchoverPermit()
    let links = try TestLinks()
    let received = try Handover<Outcome<ArrivedGuest>>()
    let thread = try Thread(name: "destination") {
      received.put(
        outcome { () throws(MigrationError) in
          var destination = Destination(links.destination, producer: "destination", limits: limits)
          return try destination.receive()
        })
    }
    var guest = ScriptedGuest(sample)
    let sent = outcome { () throws(MigrationError) in
      try Source(links.source, producer: "source", timeLimit: patience)
        .move(&guest, unless: cancellation, awaiting: permit) { if $0 == .waiting { cancellation.cancel() } }
    }
    thread.join()
    #expect(sent.error == .cancelled)
    #expect(received.wait().error == .peerFailed(MigrationError.cancelled.description))
    #expect(!guest.calls.contains(.pause))
  }

  @Test("what the connection carries at the switchover can be told where the passes are held back")
  func bandwidth() {
    let policy = MigrationPolicy(downtimeLimit: .milliseconds(100), switchoverBytesPerSecond: 1_000_000_000)
    var convergence = Convergence(policy)
    // 10 MB a second by the passes: 50 MB would take 5 s.
    #expect(convergence.next(sentByteCount: 10_000_000, seconds: 1, remaining: 50_000_000) == .stop)
    #expect(convergence.expectedSeconds(for: 50_000_000) == 0.05)
  }
}
