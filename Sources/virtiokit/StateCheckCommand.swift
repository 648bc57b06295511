import DeviceState
import Options

/// `virtiokit state check`
struct StateCheckCommand: Command {
  static let name = "check"
  static let summary = "Tells whether devices here could go on from a snapshot."
  static let discussion = """
    Each device in it is restored in the memory of this program: features against what such a device offers, the values of \
    fields against each other, and, where the snapshot has the guest's memory, every ring and waiting chain against that. \
    Lines that begin with "note:" are no fault. \(StateOutcome.explanation)
    """
  static let examples = [Example("balloon.state", "Find out why a restore was refused.")]

  var file = ""

  mutating func declare(in options: inout OptionTable) {
    options.operand("FILE", &file, "a snapshot, as bytes or as JSON")
  }

  func run() throws -> StateOutcome {
    let source = try StateFile(file)
    var report = StateReport()
    let document = source.document()
    for problem in document.problems { report.fault(problem) }
    do {
      report.check(try source.snapshot())
    } catch StateFileError.unknown(_, let reason) where document.problems.isEmpty {
      report.note(reason)
    } catch {
      if document.problems.isEmpty { report.fault("\(error)") } else if document.sections.isEmpty { throw error }
    }
    try Terminal.deliver(report.text)
    return report.isConsistent ? .fine : .different
  }
}

/// What a check finds.
struct StateReport {
  private(set) var lines: [String] = []
  private(set) var isConsistent = true

  mutating func fault(_ sentence: String) {
    isConsistent = false
    lines.append(sentence)
  }

  mutating func note(_ sentence: String) {
    lines.append("note: \(sentence)")
  }

  var text: String {
    lines.map { $0 + "\n" }.joined() + (isConsistent ? "consistent\n" : "not consistent\n")
  }
}
