import DeviceState
import VirtioNet

/// A port that writes down what it is sent, as a checksum, and what it gives, whole.
final class RecordedPort: PacketPort {
  private let base: any PacketPort
  private let number: UInt64
  private let recorder: Recorder

  /// - Parameter number: which of the card's ports it is.
  init(_ base: any PacketPort, _ number: Int, recorder: Recorder) {
    self.base = base
    self.number = UInt64(number)
    self.recorder = recorder
  }

  var name: String { base.name }
  var descriptor: Int32? { base.descriptor }
  var counters: PortCounters { base.counters }

  var takenOffloads: Offloads {
    let offloads = base.takenOffloads
    recorder.note(Act(.takenOffloads, number), Answer([UInt64(offloads.rawValue)]))
    return offloads
  }

  /// The answer is empty while the port can carry something.
  var failure: PortError? {
    let failure = base.failure
    recorder.note(Act(.portFailure, number), Answer(content: failure.map { Array($0.description.utf8) } ?? []))
    return failure
  }

  func setGivenOffloads(_ offloads: Offloads) {
    base.setGivenOffloads(offloads)
    recorder.note(Act(.setGivenOffloads, number, UInt64(offloads.rawValue)), Answer())
  }

  func send(_ batch: inout PacketBatch) {
    let act = Act(.send, number, UInt64(batch.count), UInt64(batch.checksum))
    let count = batch.count
    base.send(&batch)
    recorder.note(act, Answer([UInt64(count - batch.count)]))
  }

  func receive(into batch: inout PacketBatch) {
    let count = batch.count
    base.receive(into: &batch)
    let packets = (count..<batch.count).map { batch.packet($0) }
    recorder.note(
      Act(.receive, number, UInt64(count)),
      Answer(packets.map { UInt64($0.count) }, content: packets.flatMap { batch.bytes[$0] }))
  }

  func finishSending() {
    base.finishSending()
    recorder.note(Act(.finishSending, number), Answer())
  }
}

extension PacketBatch {
  /// The checksum of all packets with their headers.
  var checksum: UInt32 {
    (0..<count).reduce(0) { CRC32C.checksum(bytes[packet($1)], after: $0) }
  }
}

/// A port that does what another did when it was recorded.
final class ReplayedPort: PacketPort {
  let name = "recorded"
  let descriptor: Int32? = nil
  let counters = PortCounters()
  private let number: UInt64
  private let outside: ReplayedOutside

  init(_ number: Int, _ outside: ReplayedOutside) {
    self.number = UInt64(number)
    self.outside = outside
  }

  var takenOffloads: Offloads {
    Offloads(rawValue: UInt32(clamping: outside.ask(Act(.takenOffloads, number))?.numbers.first ?? 0))
      .intersection(.all)
  }

  var failure: PortError? {
    guard let text = outside.ask(Act(.portFailure, number))?.content, !text.isEmpty else { return nil }
    return .disconnected(String(decoding: text, as: UTF8.self))
  }

  func setGivenOffloads(_ offloads: Offloads) {
    _ = outside.ask(Act(.setGivenOffloads, number, UInt64(offloads.rawValue)))
  }

  /// A port that is sent something else takes all, and the replay is over.
  func send(_ batch: inout PacketBatch) {
    let answer = outside.ask(Act(.send, number, UInt64(batch.count), UInt64(batch.checksum)))
    batch.removeFirst(answer?.numbers.first.map { Int(clamping: $0) } ?? batch.count)
  }

  func receive(into batch: inout PacketBatch) {
    guard let answer = outside.ask(Act(.receive, number, UInt64(batch.count))) else { return }
    var place = 0
    for length in answer.numbers {
      let end = place + Int(clamping: min(length, UInt64(answer.content.count - place)))
      guard end - place >= NetHeader.byteCount, let header = NetHeader(answer.content, at: place) else { return }
      batch.append(answer.content[place + NetHeader.byteCount..<end], header)
      place = end
    }
  }

  func finishSending() {
    _ = outside.ask(Act(.finishSending, number))
  }
}
