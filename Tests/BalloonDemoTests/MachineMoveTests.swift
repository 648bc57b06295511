import Balloon
import LinuxIO
import Migration
import SimulatedGuest
import Testing
import VirtioCore

@testable import balloon_demo

@Suite("A guest goes only where its devices are") struct MachineMoveTests {
  private static let memory: UInt64 = 32 << 20

  /// Moves a guest, and tells what each side makes of it.
  private func move(
    _ way: MemoryMove, to profile: GuestProfile
  ) throws -> (machine: Machine, source: MigrationError?, destination: MigrationError?) {
    var machine = try Machine(memoryByteCount: Self.memory, seed: 3, workload: .idle) { (_) in }
    let address = MigrationAddress.unix(path: "/tmp/machine-move-\(UInt64.random(in: 0 ... .max))")
    let listener = try MigrationListener(address)
    let heard = try Handover<MigrationError?>()
    let taker = try Thread(name: "taker") {
      heard.put(
        Self.failure {
          let link = try listener.accept(within: .seconds(30))
          _ = try Machine.receive(over: link, mostMemory: Self.memory, as: profile)
        })
    }
    let failure = Self.failure {
      _ = try machine.move(over: MigrationLink.connect(to: address, within: .seconds(30)), way) { (_) in }
    }
    taker.join()
    return (machine, failure, heard.wait())
  }

  private static func failure(_ body: () throws -> Void) -> MigrationError? {
    do {
      try body()
      return nil
    } catch {
      return error as? MigrationError
    }
  }

  @Test(
    "a destination without a feature that the guest uses refuses it by its name, and the guest runs on",
    arguments: [
      MemoryMove.sent, .handedOver,
    ])
  func refused(_ way: MemoryMove) throws {
    var options = BalloonOptions()
    options.statistics = false
    var profile = GuestProfile()
    profile.add(DeviceHost(BalloonDevice(options, reclaimer: MemoryReclaimer())) { (_) in })
    var moved = try move(way, to: profile)
    let reason = """
      device balloon: source: uses feature STATS_VQ (bit 1); destination: does not offer it; state guest: source: version \
      \(GuestState.version); destination: does not know it
      """
    let refusal = MigrationError.refused(source: "balloon-demo", destination: "balloon-demo", reason: reason)
    #expect(moved.source == refusal && moved.destination == refusal)
    try moved.machine.guest.run(steps: 5)
    #expect(try moved.machine.view().fault == nil)
  }

  @Test("it goes to a process like its own")
  func taken() throws {
    let moved = try move(.sent, to: Machine.destinationProfile)
    #expect(moved.source == nil && moved.destination == nil)
  }
}
