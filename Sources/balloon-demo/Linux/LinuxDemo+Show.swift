import Foundation
import Options

/// The demo with a real guest, for people and for scripts.
extension LinuxDemo {
  /// Plays the demo, says what it found, and gives what `--json` prints.
  static func show(_ options: DemoOptions, _ terminal: Terminal) throws -> DemoReport {
    let memory = options.memoryByteCount
    terminal.say(
      "A real Linux kernel with \(Size(memory)), our balloon over vhost-user, target \(options.target.optionText)")
    let demo = LinuxDemo(
      memory: memory, target: options.targetByteCount, timeout: patience(forMemory: memory)
    ) { terminal.progress($0) }
    let found = try demo.run()
    terminal.say("\n\(found.table)\n")
    for check in found.checks { terminal.say("  \(check.holds ? "yes" : "NO ")  \(check.name)") }
    terminal.say("\n\(found.summary)")
    return found.demoReport
  }
}

extension LinuxDemoReport {
  fileprivate var table: String {
    var table = Table("Linux \(kernelRelease)", "MemTotal", "MemFree", "host memory")
    for (name, moment) in [("before", before), ("inflated", inflated), ("deflated", deflated)] {
      table.add(
        name, "\(Size(moment.guest.totalByteCount))", "\(Size(moment.guest.freeByteCount))",
        "\(Size(moment.resident))")
    }
    return table.text
  }

  fileprivate var summary: String {
    let freed = before.resident - min(before.resident, inflated.resident)
    return
      "\(Size(hintedByteCount)) were named as free, for a move to leave out; \(Size(freed)) came back to the host in "
      + String(format: "%.0f ms.", inflateSeconds * 1000)
  }

  fileprivate var demoReport: DemoReport {
    var report = DemoReport(guest: "linux", memoryBytes: memoryByteCount, targetBytes: targetByteCount)
    report.hintedBytes = hintedByteCount
    report.actualBytes = actualByteCount
    report.residentBeforeBytes = before.resident
    report.residentAfterBytes = inflated.resident
    report.reclaimedBytes = reclaimedByteCount
    report.warnings = [warning].compactMap(\.self) + checks.filter { !$0.holds }.map { "not so: \($0.name)" }
    report.verified = isVerified
    return report
  }
}
