import Balloon
import DeviceState
import VirtioBlk
import VirtioCore
import VirtioNet

/// A section that this program can read, and not only print.
struct KnownState: Sendable {
  let section: String
  let schema: @Sendable () throws(StateError) -> Schema
  /// The section of a snapshot as an older version of it would be written; throws what it would be refused for.
  let encoded: @Sendable (_ snapshot: Snapshot, _ instance: String, _ version: Int) throws(StateError) -> [UInt8]

  private init<S: SavedState>(_ state: S.Type) {
    section = state.section
    schema = { () throws(StateError) in try Schema(of: state) }
    encoded = { (snapshot, instance, version) throws(StateError) in
      try snapshot.read(state, instance: instance).encoded(as: version)
    }
  }

  static let all = [
    KnownState(BalloonState.self), KnownState(HostState<BalloonState>.self), KnownState(BlockState.self),
    KnownState(HostState<BlockState>.self), KnownState(NetState.self), KnownState(HostState<NetState>.self),
    KnownState(MemoryImage.self),
  ]
}
