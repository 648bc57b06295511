import Migration

extension MigrationEvent {
  /// The event as a line.
  var line: String {
    switch self {
    case .forecast(let forecast):
      """
      Expected: \(Amount.seconds(forecast.seconds)) in \(forecast.passCount) passes, stopped for \
      \(Amount.seconds(forecast.downtimeSeconds))\(forecast.fits ? "" : ", which is too long").\(forecast.adviceSentence)
      """
    case .pass(let number, let pass):
      """
      Pass \(number): \(Amount.bytes(pass.sentByteCount)) in \(Amount.seconds(pass.seconds)); \
      \(Amount.bytes(pass.remainingByteCount)) were written meanwhile\
      \(pass.share < 1 ? "; slowed down to \(Int(pass.share * 100)) %" : "").
      """
    case .stopping: "The guest stands still for the rest."
    case .waiting: "The guest could be stopped now: press Enter, and it is."
    case .left: "The guest runs there, and the rest of its memory follows."
    }
  }
}
