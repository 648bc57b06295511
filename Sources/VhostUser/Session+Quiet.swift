import LinuxIO
import VirtioCore

/// Quiet before change: no message takes memory or rings away from under requests that are still being served.
///
/// Such a message is kept, and those behind it stay unread, while the paused device finishes what it has. Kicks that come
/// in between are served afterwards.
extension Session where Device: ~Copyable {
  /// Does what a message asks for, now or as soon as the device is quiet.
  func take(_ message: consuming Message) throws(VhostUserError) {
    if device.isQuiet || !needsQuiet(message) { return try answer(&message) }
    keptMessage = consume message
    stopListening()
    device.host.pause()
  }

  /// Does what the kept message asks for, and then lets the device and the front-end go on.
  func goOnWithMessage() {
    guard var message = keptMessage.take() else { return }
    guarded { () throws(VhostUserError) in
      try answer(&message)
      try system { () throws(LinuxError) in try listen() }
      letServe()
    }
  }

  /// Lets a paused device serve again, unless there is another reason to pause.
  func letServe() {
    guard !isResting, keptMessage == nil else { return }
    if device.host.resume() { comeBack() }
  }

  private func needsQuiet(_ message: borrowing Message) -> Bool {
    switch FrontendRequest(rawValue: message.request) {
    case .setFeatures, .setMemTable, .addMemReg, .remMemReg, .setLogBase, .setInflightFd, .resetDevice,
      .postcopyListen:
      true
    case .setStatus: message.payload.allSatisfy { $0 == 0 }
    case .getVringBase, .setVringNum, .setVringAddr, .setVringBase, .setVringEnable:
      // A message about a ring starts with its number; one that is too short is refused when it is taken apart.
      isDriverInDoubt || (message.payload.count >= 4 && device.host.isRunning(Int(clamping: message.ringNumber)))
    case .setConfig: isDriverInDoubt
    default: false
    }
  }
}

extension Message {
  fileprivate var ringNumber: UInt32 {
    var reader = PayloadReader(payload)
    return reader.next()
  }
}
