import DeviceState
import LinuxIO
import VirtioCore

/// The device's own state on its way to another back-end; where the rings stand, the front-end knows by itself.
extension Session where Device: ~Copyable {
  /// The low byte says whether it failed; the next bit, that no descriptor comes back.
  private static var started: UInt64 { 0x100 }
  private static var refused: UInt64 { 0x101 }

  /// Begins to send the state, or to receive one. The device must have been suspended: it refuses while a ring is started.
  func startStateTransfer(_ message: inout Message) throws(VhostUserError) -> UInt64 {
    let direction = try message.stateTransfer()
    guard let pipe = message.descriptors.takeFirst() else { return Self.refused }
    stateTransfer?.cancel()
    stateTransfer = nil
    guard !rings.contains(where: \.isStarted) else { return Self.refused }
    let bytes = direction == .save ? try savedState() : []
    do throws(LinuxError) {
      stateTransfer = try StateTransfer(direction, pipe, sending: bytes, on: loop)
    } catch {
      throw .system(error)
    }
    return Self.started
  }

  /// Whether the transfer came to a good end: 0. With it a state that was received is the device's.
  func checkState(_ message: borrowing Message) throws(VhostUserError) -> UInt64 {
    try message.checkNoPayload()
    guard let transfer = stateTransfer.take() else { return 1 }
    defer { transfer.cancel() }
    guard transfer.finish() else { return 1 }
    return transfer.direction == .save || adopt(transfer.bytes) ? 0 : 1
  }

  private func savedState() throws(VhostUserError) -> [UInt8] {
    var snapshot = Snapshot()
    do throws(StateError) {
      try snapshot.add(device.host.device.state)
    } catch {
      throw .host(.state(error))
    }
    return snapshot.encoded()
  }

  /// A state that is not one, or not of such a device, is the front-end's to report.
  private func adopt(_ bytes: [UInt8]) -> Bool {
    do {
      var snapshot = try Snapshot(decoding: bytes)
      try device.host.adopt(model: snapshot.take(Device.State.self))
      return true
    } catch {
      return false
    }
  }
}
