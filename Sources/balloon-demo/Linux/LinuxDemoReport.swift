/// What the demo with a real guest found. Sizes are in bytes.
struct LinuxDemoReport: Equatable {
  /// The guest and the host memory behind it at one time.
  struct Moment: Equatable {
    /// What the guest's kernel says.
    let guest: GuestFigures
    /// The host memory behind the guest, as our mapping of it shows.
    let resident: UInt64
    /// The same as the guest's process in `/proc` shows.
    let residentByProcess: UInt64

    /// The guest runs while it is looked at, so the two measures may be a little apart.
    static let tolerance: UInt64 = 2 << 20

    var measuresAgree: Bool {
      max(resident, residentByProcess) - min(resident, residentByProcess) <= Self.tolerance
    }
  }

  /// Something that must be so, and whether it was.
  struct Check: Equatable {
    let name: String
    let holds: Bool
  }

  let kernelRelease: String
  let memoryByteCount: UInt64
  let targetByteCount: UInt64
  /// What the driver named as free when it was asked to.
  let hintedByteCount: UInt64
  /// The memory that the driver said it kept, once the balloon was inflated.
  let actualByteCount: UInt64
  /// What the device gave back to the host by then.
  let reclaimedByteCount: UInt64
  let before: Moment
  let inflated: Moment
  let deflated: Moment
  /// From setting each target to the driver's report that it was reached.
  let inflateSeconds: Double
  let deflateSeconds: Double
  /// The whole run.
  let seconds: Double
  /// Whether the file that the guest wrote at the start was whole at the end.
  let keptIsGood: Bool
  /// Whether the memory that came back from the balloon kept what was written to it.
  let reusedIsGood: Bool
  /// What the device found wrong with its numbers, or nil.
  let warning: String?
}

extension LinuxDemoReport {
  private var balloonByteCount: UInt64 { memoryByteCount - targetByteCount }

  /// All that the run is to show.
  var checks: [Check] {
    [
      // It names large blocks only.
      Check(name: "the driver named its free pages", holds: hintedByteCount >= before.guest.freeByteCount / 2),
      Check(name: "the driver kept what it was told to", holds: actualByteCount == targetByteCount),
      Check(
        name: "the guest's kernel has that much less memory",
        holds: before.guest.totalByteCount == inflated.guest.totalByteCount + balloonByteCount),
      Check(
        name: "no more host memory than the target is behind the guest",
        holds: inflated.resident <= targetByteCount && inflated.resident < before.resident),
      Check(
        name: "two ways to measure host memory agree", holds: [before, inflated, deflated].allSatisfy(\.measuresAgree)),
      Check(
        name: "the guest's kernel has all its memory back",
        holds: deflated.guest.totalByteCount == before.guest.totalByteCount),
      Check(name: "the guest's file is whole", holds: keptIsGood),
      Check(name: "the memory that came back is good", holds: reusedIsGood),
      Check(name: "the device has nothing to warn of", holds: warning == nil),
    ]
  }

  /// Whether everything is as it should be.
  var isVerified: Bool { checks.allSatisfy(\.holds) }
}
