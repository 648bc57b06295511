import Balloon
import GuestRAM
import LinuxIO
import Options
import VhostUser

/// The demo with a real guest, step by step.
struct LinuxScenes {
  private static let measurements = 5
  private static let toldByteCount: UInt64 = 64 << 20

  let stage: LinuxStage
  let memory: UInt64
  let target: UInt64
  let progress: (String) -> Void

  func play() throws -> LinuxDemoReport {
    let start = MonotonicClock.now
    progress("a Linux kernel boots, and uses all of its \(ByteCount(bytes: memory)) once")
    let before = try boot()
    let resident = before.resident
    let moment = stage.device.update { $0.moment(residentByteCount: resident) }

    progress("Linux \(stage.kernelRelease) is to name its free pages")
    let hintedByteCount = try hint()

    progress("Linux \(stage.kernelRelease) is to give up \(ByteCount(bytes: memory - target))")
    let inflateSeconds = try resize(to: BalloonTarget(memoryByteCount: target, of: memory))
    let inflated = try look()
    let report = stage.device.update {
      $0.report(guestByteCount: memory, residentByteCount: inflated.resident, since: moment)
    }

    progress("Linux \(stage.kernelRelease) gets it back")
    let deflateSeconds = try resize(to: BalloonTarget(pageCount: 0))
    let deflated = try look()

    progress("Linux \(stage.kernelRelease) uses its memory again, and checks it")
    let verdict = try stage.wait(for: "it had checked its memory") { stage.verdict }
    try stage.wait(for: "it had powered off") { stage.guest?.hasEnded == true ? () : nil }
    return LinuxDemoReport(
      kernelRelease: stage.kernelRelease, memoryByteCount: memory, targetByteCount: target,
      hintedByteCount: hintedByteCount,
      actualByteCount: report.actualByteCount, reclaimedByteCount: report.reclaimedByteCount, before: before,
      inflated: inflated, deflated: deflated, inflateSeconds: inflateSeconds, deflateSeconds: deflateSeconds,
      seconds: Self.seconds(since: start), keptIsGood: verdict.keptIsGood, reusedIsGood: verdict.reusedIsGood,
      warning: report.warning?.description)
  }

  private func boot() throws -> LinuxDemoReport.Moment {
    try stage.wait(for: "it was up") {
      stage.isReady && stage.figures != nil && stage.device.memory != nil ? () : nil
    }
    return try look()
  }

  /// Has the driver name its free pages, as before a move, and lets it use them again.
  /// - Returns: how many bytes it has named.
  private func hint() throws -> UInt64 {
    try stage.device.update { (balloon) throws(BalloonError) in _ = try balloon.startHinting() }
    var byteCount: UInt64 = 0
    try stage.wait(for: "it had named its free pages; it named \(Size(byteCount))") {
      byteCount += stage.device.update { $0.takeHints() }.ranges.reduce(0) { $0 + $1.byteCount }
      return stage.device.update { $0.hintPhase } == .ended ? () : nil
    }
    stage.device.update { $0.finishHinting() }
    return byteCount
  }

  /// Sets the balloon's size and waits until both the driver and its kernel's own counters say that it has it.
  private func resize(to balloon: BalloonTarget) throws -> Double {
    let start = MonotonicClock.now
    stage.device.update { $0.setTarget(balloon) }
    var told: UInt64 = 0
    try stage.wait(for: "its balloon held \(Self.size(balloon.pageCount)); it holds \(Self.size(actualPageCount))") {
      let pageCount = actualPageCount
      tell(pageCount, last: &told)
      let counted = stage.figures?.balloonPageCount
      return pageCount == balloon.pageCount && counted == UInt64(pageCount) ? () : nil
    }
    return Self.seconds(since: start)
  }

  private var actualPageCount: UInt32 { stage.device.update { $0.actualPageCount } }

  /// Not each of the driver's steps is worth a line.
  private func tell(_ pageCount: UInt32, last: inout UInt64) {
    let byteCount = UInt64(pageCount) * PageRuns.pageByteCount
    guard byteCount / Self.toldByteCount != last / Self.toldByteCount else { return }
    last = byteCount
    progress("the balloon holds \(Self.size(pageCount))")
  }

  private static func size(_ pageCount: UInt32) -> Size {
    Size(UInt64(pageCount) * PageRuns.pageByteCount)
  }

  /// Measures. The guest runs on meanwhile, so measures that do not agree are taken again.
  private func look() throws -> LinuxDemoReport.Moment {
    var moment = try lookOnce()
    for _ in 1..<Self.measurements where !moment.measuresAgree { moment = try lookOnce() }
    return moment
  }

  private func lookOnce() throws -> LinuxDemoReport.Moment {
    guard let guest = stage.guest, let figures = stage.figures, let memory = stage.device.memory else {
      throw LinuxDemoError.guestEnded(before: "it could be measured", lastWords: stage.guest?.lastWords ?? [])
    }
    return LinuxDemoReport.Moment(
      guest: figures, resident: try memory.residentByteCount(), residentByProcess: try guest.memoryFileByteCount() ?? 0)
  }

  private static func seconds(since start: UInt64) -> Double {
    Double(MonotonicClock.now - start) / 1_000_000_000
  }
}
