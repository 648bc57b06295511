import Foundation
import GuestRAM
import LinuxIO
import Testing

@testable import Migration

@Suite("Migration: into a file and out of it") struct FileMoveTests {
  private final class Place {
    let path = NSTemporaryDirectory() + "guest-\(UUID().uuidString)"
    var address: MigrationAddress { .file(path: path) }

    deinit { try? FileManager.default.removeItem(atPath: path) }
  }

  private func restore(_ place: Place) -> Outcome<Move.Arrived> {
    outcome { () throws(MigrationError) in
      let link = try MigrationListener(place.address).accept(within: patience)
      var destination = Destination(link, producer: "destination", limits: limits)
      let guest = try destination.receive()
      return Move.Arrived(guest: guest, report: try destination.confirm())
    }
  }

  @Test("a guest is saved and restored, as often as one likes, and the saved one may run on")
  func stopped() throws {
    let (sample, place) = (try SampleGuest(), Place())
    let report = try Source(MigrationLink.connect(to: place.address, within: patience), producer: "source")
      .move(sample.memory, state: sample.state)
    #expect(!report.isVerified)
    for _ in 0..<2 {
      let arrived = try restore(place).get()
      #expect(arrived.guest.state == sample.state)
      #expect(try SampleGuest.contents(arrived.guest.memory) == SampleGuest.contents(sample.memory))
    }
  }

  @Test("a guest that runs is saved as it was when it was stopped", arguments: [false, true])
  func live(compresses: Bool) throws {
    let (sample, place) = (try SampleGuest(), Place())
    var guest = ScriptedGuest(sample, [.fill(pages(40, 8), with: 3), .fill(pages(41, 1), with: 0)])
    let policy = MigrationPolicy(downtimeLimit: .zero, compresses: compresses)
    _ = try Source(MigrationLink.connect(to: place.address, within: patience), producer: "source")
      .move(&guest, policy: policy)
    let arrived = try restore(place).get().guest.memory
    for range in SampleGuest.regions {
      let count = Int(range.byteCount)
      #expect(try arrived.readBytes(count, at: range.start) == sample.memory.readBytes(count, at: range.start))
    }
  }

  @Test("a file that was not written to its end, or is damaged anywhere, gives no guest, and says so")
  func damaged() throws {
    let (sample, place) = (try SampleGuest(stateByteCount: 100), Place())
    _ = try Source(MigrationLink.connect(to: place.address, within: patience), producer: "source")
      .move(sample.memory, state: sample.state)
    let whole = try Data(contentsOf: URL(fileURLWithPath: place.path))
    for count in stride(from: 0, to: whole.count, by: whole.count / 97) + [whole.count - 1] {
      try whole.prefix(count).write(to: URL(fileURLWithPath: place.path))
      #expect(restore(place).error != nil, "cut to \(count) bytes")
    }
    for index in stride(from: 0, to: whole.count, by: whole.count / 97) {
      var changed = whole
      changed[index] ^= 0x10
      try changed.write(to: URL(fileURLWithPath: place.path))
      #expect(restore(place).error != nil, "byte \(index) changed")
    }
  }

  @Test("a device that is full is an error, and the guest stays here")
  func full() throws {
    let sample = try SampleGuest()
    let error = outcome { () throws(MigrationError) in
      try Source(MigrationLink.connect(to: .file(path: "/dev/full"), within: patience), producer: "source")
        .move(sample.memory, state: sample.state)
    }.error
    #expect(error == .system(LinuxError(call: "writev", number: ENOSPC)))
    #expect(error?.sourceMayRun == true)
  }
}
