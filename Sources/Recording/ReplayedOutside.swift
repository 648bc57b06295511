import LinuxIO

/// The outside of a device that is played again: it answers what was answered then, to what was asked then.
public final class ReplayedOutside: Sendable {
  private struct Desk {
    var exchanges: ArraySlice<Exchange> = []
    var discrepancy: Discrepancy?
  }

  private let desk = Monitor(Desk())

  init() {}

  /// What was answered when a device asked this; nil when it asks something else now.
  func ask(_ act: Act) -> Answer? {
    desk.withLock { desk in
      guard desk.discrepancy == nil else { return nil }
      let expected = desk.exchanges.popFirst()
      if let expected, expected.act == act { return expected.answer }
      desk.discrepancy = Discrepancy(expected: Self.words(expected), found: Self.words(act))
      return nil
    }
  }

  /// Prepares for a call.
  func expect(_ exchanges: [Exchange]) {
    desk.withLock { $0 = Desk(exchanges: exchanges[...]) }
  }

  /// What was asked otherwise in the call, or was not asked.
  var discrepancy: Discrepancy? {
    desk.withLock { desk in
      if let discrepancy = desk.discrepancy { return discrepancy }
      return desk.exchanges.first.map { Discrepancy(expected: Self.words($0), found: "nothing more is asked") }
    }
  }

  private static func words(_ act: Act) -> String { "asks its outside: \(act)" }

  private static func words(_ exchange: Exchange?) -> String {
    exchange.map { words($0.act) } ?? "nothing more is asked"
  }
}
