import GuestRAM
import LinuxIO
import VirtioBlk

/// What came of an operation of a store, as far as a device can tell: a number, and the kernel's error number.
struct StoreOutcome: Equatable {
  /// The numbers stand in recordings; new ones go to the end.
  private enum Kind: UInt64 {
    case done, system, memory, readOnly, fixedSize, unsupported, inUse, other
  }

  private let kind: Kind
  private let errorNumber: UInt64

  static let done = StoreOutcome(.done)

  private init(_ kind: Kind, _ errorNumber: UInt64 = 0) {
    self.kind = kind
    self.errorNumber = errorNumber
  }

  init(_ error: StoreError) {
    switch error {
    case .system(let error): self.init(.system, UInt64(clamping: error.number))
    case .memory: self.init(.memory)
    case .readOnly: self.init(.readOnly)
    case .fixedSize: self.init(.fixedSize)
    case .unsupported: self.init(.unsupported)
    case .inUse: self.init(.inUse)
    default: self.init(.other)
    }
  }

  /// Reads what `numbers` gave; nil for other numbers.
  init?(_ numbers: [UInt64]) {
    guard numbers.count >= 2, let kind = Kind(rawValue: numbers[0]) else { return nil }
    self.init(kind, numbers[1])
  }

  var numbers: [UInt64] { [kind.rawValue, errorNumber] }

  /// An error that a device answers in the same way; nil when there was none.
  var error: StoreError? {
    switch kind {
    case .done: nil
    case .system: .system(LinuxError(call: "recorded", number: Int32(clamping: errorNumber)))
    case .memory: .memory(.outside(GuestRange(start: GuestAddress(0), byteCount: 0)))
    case .readOnly: .readOnly
    case .fixedSize: .fixedSize
    case .unsupported: .unsupported
    case .inUse: .inUse
    case .other: .injected
    }
  }
}
