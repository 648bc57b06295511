import Migration

/// Why a guest has not been moved, or may not have been: how the program ends.
enum MoveFailure: Error {
  /// The guest is where it was; what has become of it there, if anything.
  case notMoved(any Error, remark: String?)
  /// Nobody said that the guest arrived.
  case unknown(MigrationError)
  /// The guest has come, and something else has gone wrong.
  /// - acknowledgement: why the other side may not have heard that it has come.
  case arrived(QmpError, acknowledgement: MigrationError?)
  /// A forecast has been told, and says that the move would not fit.
  case doesNotFit
  /// The guest has so little memory in use that sending it tells nothing of the connection.
  case tooSmallToTell
  /// QEMU is not in a state in which this can be done.
  case unsuitable(status: String, advice: String)
}

extension MoveFailure: FailureWithStatus {
  var exitStatus: Int32 {
    switch self {
    case .notMoved, .tooSmallToTell, .unsuitable: 1
    case .unknown: 3
    case .doesNotFit: 4
    case .arrived: 5
    }
  }
}

extension MoveFailure: CustomStringConvertible {
  var description: String {
    switch self {
    case .notMoved(let error, let remark): "\(error)\(remark.map { "; \($0)" } ?? "")"
    case .unknown(let error): "\(error)"
    case .arrived(let error, let acknowledgement):
      "the guest is here and its own, but \(error)\(acknowledgement.map { "; \(Self.remark(onLost: $0))" } ?? "")"
    case .doesNotFit: "the move is not expected to fit"
    case .tooSmallToTell:
      "the guest has too little memory in use to measure the connection with: say what it takes with --bandwidth"
    case .unsuitable(let status, let advice): "QEMU says \"\(status)\": \(advice)"
    }
  }

  /// What it means that the other side was not told that the guest has come.
  static func remark(onLost error: MigrationError) -> String {
    "the other side may not have heard that it has come (\(error)), and must not resume its copy"
  }
}

/// A failure that says how the program ends.
protocol FailureWithStatus: Error {
  var exitStatus: Int32 { get }
}
