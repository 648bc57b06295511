import Options
import Testing

@testable import balloon_demo

@Suite("LinuxDemo") struct LinuxDemoTests {
  private static let mebibyte: UInt64 = 1 << 20

  private static func moment(
    total: UInt64, resident: UInt64, byProcess: UInt64? = nil
  ) -> LinuxDemoReport.Moment {
    let figures = GuestFigures(
      totalByteCount: total * mebibyte, freeByteCount: total * mebibyte, inflatedPageCount: 0, deflatedPageCount: 0)
    return LinuxDemoReport.Moment(
      guest: figures, resident: resident * mebibyte, residentByProcess: (byProcess ?? resident) * mebibyte)
  }

  /// A guest of 1024 MiB that gave up 512.
  private static func report(
    hinted: UInt64 = 900, actual: UInt64 = 512, before: LinuxDemoReport.Moment = moment(total: 996, resident: 980),
    inflated: LinuxDemoReport.Moment = moment(total: 484, resident: 470),
    deflated: LinuxDemoReport.Moment = moment(total: 996, resident: 471), keptIsGood: Bool = true,
    reusedIsGood: Bool = true, warning: String? = nil
  ) -> LinuxDemoReport {
    LinuxDemoReport(
      kernelRelease: "6.1", memoryByteCount: 1024 * mebibyte, targetByteCount: 512 * mebibyte,
      hintedByteCount: hinted * mebibyte, actualByteCount: actual * mebibyte, reclaimedByteCount: 512 * mebibyte,
      before: before, inflated: inflated,
      deflated: deflated, inflateSeconds: 1, deflateSeconds: 1, seconds: 1, keptIsGood: keptIsGood,
      reusedIsGood: reusedIsGood, warning: warning)
  }

  @Test("a run is verified when everything is as it should be")
  func verified() {
    #expect(Self.report().isVerified)
  }

  @Test(
    "one thing that is not as it should be is enough for a run not to be verified, and it is named",
    arguments: [
      (report(hinted: 400), "the driver named its free pages"),
      (report(actual: 513), "the driver kept what it was told to"),
      (report(inflated: moment(total: 485, resident: 470)), "the guest's kernel has that much less memory"),
      (
        report(inflated: moment(total: 484, resident: 513)),
        "no more host memory than the target is behind the guest"
      ),
      (
        report(before: moment(total: 996, resident: 470)),
        "no more host memory than the target is behind the guest"
      ),
      (
        report(deflated: moment(total: 996, resident: 471, byProcess: 474)),
        "two ways to measure host memory agree"
      ),
      (report(deflated: moment(total: 995, resident: 471)), "the guest's kernel has all its memory back"),
      (report(keptIsGood: false), "the guest's file is whole"),
      (report(reusedIsGood: false), "the memory that came back is good"),
      (report(warning: "odd"), "the device has nothing to warn of"),
    ])
  func notVerified(report: LinuxDemoReport, name: String) {
    #expect(!report.isVerified)
    #expect(report.checks.filter { !$0.holds }.map(\.name) == [name])
  }

  private func refusal(memory: UInt64, target: UInt64) -> LinuxDemoError? {
    let demo = LinuxDemo(memory: memory, target: target, timeout: .zero) { _ in }
    return #expect(throws: LinuxDemoError.self) { try demo.run() }
  }

  @Test("sizes that make no sense are refused before anything is started")
  func refusals() {
    let gibibyte = 1024 * Self.mebibyte
    let least = 96 * Self.mebibyte
    #expect(
      refusal(memory: gibibyte, target: least - 4096)
        == .targetTooSmall(least - 4096, memory: gibibyte, least: least))
    #expect(refusal(memory: gibibyte, target: gibibyte) == .targetNotBelowMemory(gibibyte, memory: gibibyte))
    #expect(refusal(memory: gibibyte, target: 2 * gibibyte) == .targetNotBelowMemory(2 * gibibyte, memory: gibibyte))
    #expect(refusal(memory: gibibyte, target: least + 1) == .notWholePages(least + 1))
    #expect(refusal(memory: gibibyte + 1, target: least) == .notWholePages(gibibyte + 1))
  }

  @Test("the kernel's command line has the guest's size, the balloon's socket and no path of this machine")
  func arguments() throws {
    let configuration = LinuxGuest.Configuration(
      kernel: try #require(Tool.find("sh")), memoryByteCount: 1 << 30, directory: "/a b:c", initrd: "initrd",
      balloonSocket: "balloon", memoryPlace: "/dev/shm")
    #expect(configuration.arguments.contains("mem=1048576K"))
    #expect(configuration.arguments.contains("virtio_uml.device=balloon:5"))
    #expect(configuration.arguments.allSatisfy { !$0.contains("/") && !$0.contains(" ") })
  }

  @Test("what is missing is told with the packages to install")
  func missing() {
    #expect(
      "\(LinuxDemoError.missing("busybox", package: "busybox-static"))".hasSuffix(
        "apt-get install user-mode-linux busybox-static"))
    #expect(
      "\(LinuxDemoError.missing("xz", package: "xz-utils"))".hasSuffix(
        "apt-get install user-mode-linux busybox-static xz-utils"))
  }

  @Test("a guard that is not told what to guard does nothing")
  func guardWithoutGuest() {
    #expect(GuestGuard.main([]) == .usage)
    #expect(GuestGuard.main(["1", "/nowhere"]) == .usage)
    #expect(GuestGuard.main(["-1", "/nowhere"]) == .usage)
    #expect(GuestGuard.main(["x", "/nowhere"]) == .usage)
  }
}
