import Foundation

/// What a run of the demo found, as `--json` prints it. Sizes are in bytes.
struct DemoReport: Codable {
  var guest: String
  /// The guest's memory as it was started.
  var memoryBytes: UInt64
  /// The memory that the guest was asked to keep; nil when it was its own statistics that decided.
  var targetBytes: UInt64?
  /// The memory that had to stay available in the guest; nil when that was not looked at.
  var leastAvailableBytes: UInt64?
  /// The memory that the guest did keep, by its driver's word; with several moves the most of all.
  var actualBytes: UInt64 = 0
  /// Host memory behind the guest, measured before and after the balloon was inflated.
  var residentBeforeBytes: UInt64 = 0
  var residentAfterBytes: UInt64 = 0
  /// How much of the memory behind the guest was pinned when it had been started.
  var pinnedBytes: UInt64 = 0
  /// Host memory that the device gave back to the kernel.
  var reclaimedBytes: UInt64 = 0
  /// What a Linux guest named as free when it was asked to.
  var hintedBytes: UInt64?
  var moves: [MoveView] = []
  var seed: UInt64?
  var workload: String?
  var warnings: [String] = []
  /// Whether all that the guest had written was right after each move, and the target was reached and paid for in host memory.
  var verified = false

  enum CodingKeys: String, CodingKey {
    case guest, moves, seed, workload, warnings, verified
    case memoryBytes = "memory_bytes"
    case targetBytes = "target_bytes"
    case hintedBytes = "hinted_bytes"
    case leastAvailableBytes = "least_available_bytes"
    case actualBytes = "actual_bytes"
    case residentBeforeBytes = "resident_before_bytes"
    case residentAfterBytes = "resident_after_bytes"
    case pinnedBytes = "pinned_bytes"
    case reclaimedBytes = "reclaimed_bytes"
  }

  var json: String {
    get throws {
      let encoder = JSONEncoder()
      encoder.outputFormatting = [.prettyPrinted, .sortedKeys]
      return String(decoding: try encoder.encode(self), as: UTF8.self)
    }
  }
}
