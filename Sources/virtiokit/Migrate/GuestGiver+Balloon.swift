import GuestRAM
import LinuxIO
import Options

/// Shrinking a guest before it is moved, and giving it its memory back if it stays.
extension GuestGiver {
  func shrink(_ record: inout MoveRecord, _ memory: GuestMemory) throws {
    guard let wish = command.balloon else { return }
    let balloon = QemuBalloon(machine: machine)
    guard let before = try balloon.size else { return leave(&record, "it has no balloon (-device virtio-balloon-pci)") }
    guard record.wasRunning else { return leave(&record, "it is paused, so it cannot shrink") }
    let (start, residentBefore) = (MonotonicClock.now, record.resident)
    // Noted first, so that it gets its memory back whatever happens.
    record.balloon = MoveRecord.Balloon(
      before: before, asked: before, after: before, residentBefore: residentBefore, reason: "it was not finished")
    let shrinking = try balloon.shrink(
      to: wish, keeping: command.keepAvailable?.bytes, unless: cancellation
    ) { (now, asked) in
      record.balloon?.after = now
      record.balloon?.asked = asked
      narrator.progress("its balloon leaves it \(Amount.bytes(now)), asked for \(Amount.bytes(asked))")
    }
    guard let shrinking else { return leave(&record, "it does not tell how much memory it needs") }
    record.resident = try memory.residentByteCount()
    let told = MoveRecord.Balloon(
      before: before, asked: shrinking.asked, after: shrinking.after,
      seconds: Double(MonotonicClock.now - start) / 1e9, residentBefore: residentBefore,
      isComplete: shrinking.isComplete, reason: shrinking.reason)
    record.balloon = told
    narrator.say(told.line(now: record.resident))
  }

  /// Moves it with all that it has.
  private func leave(_ record: inout MoveRecord, _ reason: String) {
    record.balloon = MoveRecord.Balloon(residentBefore: record.resident, reason: reason)
    narrator.say("The guest has not been shrunk: \(reason).")
  }

  /// Gives a guest that stays its memory back, and waits for that as long as it gets anywhere.
  /// - Returns: what became of it, as the end of a sentence.
  func giveBack(_ balloon: MoveRecord.Balloon) -> String {
    guard let before = balloon.before else { return "" }
    do throws(QmpError) {
      let device = QemuBalloon(machine: machine)
      guard try machine.status.isRunning else {
        try device.set(before)
        return " and gets its memory back once it runs"
      }
      narrator.progress("giving the guest its memory back")
      let after = try device.change(to: before)
      narrator.clear()
      if after >= before { return " and has its memory back" }
      return " and has \(Amount.bytes(after)) of its \(Amount.bytes(before)) back, and takes no more for now"
    } catch {
      return ", but does not get its memory back: \(error)"
    }
  }
}

extension MoveRecord.Balloon {
  fileprivate func line(now resident: UInt64) -> String {
    let back = residentBefore > resident ? "\(Amount.bytes(residentBefore - resident)) came back" : "nothing came back"
    return "\(outcome) in \(Amount.seconds(seconds)): \(reason); \(back)."
  }

  /// As the beginning of a sentence.
  var outcome: String {
    "\(isComplete ? "Its" : "Only in part: its") balloon left it \(Amount.bytes(after)), asked for \(Amount.bytes(asked)),"
  }
}
