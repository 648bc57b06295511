import GuestRAM

/// What a driver has found that cannot be, by the words that it keeps in its page: a code of its own, 0 for nothing, and
/// three numbers. Only the first is kept, which all others may follow from.
struct DriverFault {
  let memory: GuestMemory
  let base: GuestAddress

  /// How many bytes it takes.
  static let byteCount: UInt64 = 32

  func note(_ code: UInt64, at place: UInt64, expected: UInt64, found: UInt64) throws(GuestError) {
    guard try memory.load(UInt64.self, at: base) == 0 else { return }
    try memory.store(place, at: base + 8)
    try memory.store(expected, at: base + 16)
    try memory.store(found, at: base + 24)
    try memory.store(code, at: base)
  }

  /// What was noted, in words that `name` has for its code and place.
  func mismatch(_ name: (_ code: UInt64, _ place: UInt64) -> String) throws(GuestError) -> IntegrityReport.Mismatch? {
    let code = try memory.load(UInt64.self, at: base)
    guard code != 0 else { return nil }
    let place = try memory.load(UInt64.self, at: base + 8)
    return IntegrityReport.Mismatch(
      what: name(code, place), address: base, expected: try memory.load(UInt64.self, at: base + 16),
      found: try memory.load(UInt64.self, at: base + 24))
  }
}
