import Balloon
import VirtioBlk
import VirtioCore
import VirtioNet

extension Recording {
  /// Plays the recording against a device of this build.
  /// - Parameter memoryLimit: how many bytes of guest memory it may touch, whatever the size of the guest.
  public func replay(memoryLimit: Int = TapeLimits.memoryByteCount) throws(RecordingError) -> ReplayResult {
    switch device {
    case .block: try replayDisk(memoryLimit: memoryLimit) { BlockDevice($0, $1) }
    case .balloon:
      try replay(BalloonSetup.self, memoryLimit) { (setup, outside) in
        BalloonDevice(setup.options, reclaimer: ReplayedReclaimer(outside)) {
          outside.ask(Act(.time))?.numbers.first ?? 0
        }
      }
    case .network:
      try replay(NetSetup.self, memoryLimit) { (setup, outside) in
        NetDevice(setup.options, ports: (0..<Int(setup.portCount)).map { ReplayedPort($0, outside) })
      }
    }
  }

  /// Plays the recording with a disk.
  /// - Parameter make: makes the disk, from its store and options.
  func replayDisk<Disk: RecordableDevice & ~Copyable>(
    memoryLimit: Int = TapeLimits.memoryByteCount, _ make: (any BlockStore, BlockOptions) -> Disk
  ) throws(RecordingError) -> ReplayResult {
    try replay(BlockSetup.self, memoryLimit) { (setup, outside) in make(ReplayedStore(setup, outside), setup.options) }
  }

  /// - Parameter make: makes the device, from how it was made then and what answers for its outside.
  private func replay<Setup: TapeRecord, Device: RecordableDevice & ~Copyable>(
    _: Setup.Type, _ memoryLimit: Int, _ make: (Setup, ReplayedOutside) -> Device
  ) throws(RecordingError) -> ReplayResult {
    let outside = ReplayedOutside()
    let device = make(try properties(Setup.self), outside)
    var replayer = Replayer(self, outside, memoryLimit: memoryLimit, device)
    return try replayer.run()
  }
}
