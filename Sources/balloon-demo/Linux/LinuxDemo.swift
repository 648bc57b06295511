import Foundation
import LinuxIO

/// The demo with a real guest: boots Linux with our balloon, inflates it to a target, deflates it, and lets the guest
/// judge its memory.
struct LinuxDemo {
  private let memory: UInt64
  private let target: UInt64
  private let timeout: Duration
  private let progress: (String) -> Void

  /// - Parameters:
  ///   - memory: the guest's memory in bytes.
  ///   - target: what it is to keep while the balloon is inflated, in bytes; see `leastTarget`.
  ///   - timeout: how long all of it may take; see `patience`.
  ///   - progress: told in a line what is going on.
  init(memory: UInt64, target: UInt64, timeout: Duration, progress: @escaping (String) -> Void) {
    self.memory = memory
    self.target = target
    self.timeout = timeout
    self.progress = progress
  }

  /// The smallest target that leaves the guest enough for itself: what it needs at any size, and what its kernel keeps
  /// for each page of the memory that it was started with.
  static func leastTarget(forMemory memory: UInt64) -> UInt64 {
    (64 << 20) + memory / 32
  }

  /// How long the demo may take before something must be wrong: some five times what it takes on two free cores.
  static func patience(forMemory memory: UInt64) -> Duration {
    .seconds(30 + 30 * Int64(memory >> 30))
  }

  /// Plays the demo. Nothing of it is left when this returns or throws.
  func run() throws -> LinuxDemoReport {
    try check()
    // Before anything else, so that a signal never finds something to leave behind.
    let signals = try SignalDescriptor()
    let installation = try LinuxInstallation.find()
    let place = try GuestMemoryPlace.find(for: memory)
    let directory = try TemporaryDirectory()
    defer { directory.remove() }

    let initrd = GuestInitrd(busybox: installation.busybox, modules: installation.modules)
    try Data(initrd.bytes).write(to: URL(fileURLWithPath: directory.path(of: "initrd")))
    let stage = try LinuxStage(socketPath: directory.path(of: "balloon"), signals: signals, timeout: timeout)
    defer { stage.clear() }
    try stage.boot(
      LinuxGuest.Configuration(
        kernel: installation.kernel, memoryByteCount: memory, directory: directory.path(of: ""), initrd: "initrd",
        balloonSocket: "balloon", memoryPlace: place))
    return try LinuxScenes(stage: stage, memory: memory, target: target, progress: progress).play()
  }

  private func check() throws {
    for byteCount in [memory, target] where !byteCount.isMultiple(of: 4096) {
      throw LinuxDemoError.notWholePages(byteCount)
    }
    guard target < memory else { throw LinuxDemoError.targetNotBelowMemory(target, memory: memory) }
    let least = Self.leastTarget(forMemory: memory)
    guard target >= least else { throw LinuxDemoError.targetTooSmall(target, memory: memory, least: least) }
    if let available = HostMachine.availableMemory, available < memory {
      throw LinuxDemoError.notEnoughMemory(needed: memory, available: available)
    }
  }
}
