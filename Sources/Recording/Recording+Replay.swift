import VirtioBlk
import VirtioCore

extension Recording {
  /// Plays the recording against a device of this build.
  public func replay() throws(RecordingError) -> ReplayResult {
    switch device {
    case .block: try replayDisk { BlockDevice($0, $1) }
    case .balloon: try replayBalloon()
    case .network: try replayCard()
    }
  }
}
