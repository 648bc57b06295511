import LinuxIO
import SimulatedGuest
import Synchronization
import VirtioNet

/// Who is at the other end of a guest's wire: sends numbered packets, and looks for the numbers of those that come.
///
/// What the guest sends goes over a wire that loses nothing, so every number has to come, once and in order.
final class NumberedPeer: Sendable {
  struct Counts: Sendable, Equatable {
    /// How many numbered packets were sent, and how many have come.
    var sent: UInt64 = 0
    var received: UInt64 = 0
    /// How many packets told where the guest's card is.
    var announcements = 0
    /// What was wrong with what came, at first.
    var fault: String?
  }

  private struct State: Sendable {
    var counts = Counts()
    var isSending = true
    var isEnding = false
    /// Counts the turns, for whoever wants to be sure that one is over.
    var turn: UInt64 = 0
  }

  static let address: [UInt8] = [2, 0, 0, 0, 0, 2]
  private static let broadcast = [UInt8](repeating: 0xFF, count: 6)

  private let state = Monitor(State())
  private let turned = WakeUp()
  private let thread = Mutex<Thread?>(nil)

  init(on network: LearningSwitch) throws {
    let new = try Thread(name: "peer") { [self] in
      do {
        try live(on: network.addPort("peer"))
      } catch {
        state.withLock { $0.counts.fault = "\(error)" }
      }
    }
    keep(new)
  }

  var counts: Counts { state.withLock { $0.counts } }

  /// Sends no more. Returns once everything sent is out.
  func stopSending() {
    state.withLock { $0.isSending = false }
    finishTurn()
  }

  /// Returns once no packet is under way that was sent before the call.
  func finishTurn() {
    let turn = state.withLock { $0.turn }
    _ = state.wait(on: turned) { $0.turn > turn + 1 || $0.isEnding ? true : nil }
  }

  func end() {
    state.withLock { $0.isEnding = true }
    turned.wakeAll()
    if let thread = thread.withLock({ $0.take() }) { thread.join() }
  }

  /// Takes turns, each when there is something, or a moment has passed.
  private func keep(_ new: consuming Thread) {
    var new: Thread? = consume new
    thread.withLock { $0 = new.take() }
  }

  private func live(on port: SwitchPort) throws {
    let loop = try EventLoop()
    if let descriptor = port.descriptor {
      try loop.watch(descriptor, for: [.readable, .onChange]) {}
    }
    while !state.withLock({ $0.isEnding }) {
      _ = try loop.runOnce(within: .microseconds(300))
      let count = receive(from: port)
      send(max(1, min(count, 16)), through: port)
      state.withLock { $0.turn += 1 }
      turned.wakeAll()
    }
  }

  private func receive(from port: SwitchPort) -> Int {
    var batch = PacketBatch()
    var count = 0
    repeat {
      batch.removeAll()
      port.receive(into: &batch)
      for index in 0..<batch.count { look(at: Array(batch.bytes[batch.frame(index)])) }
      count += batch.count
    } while !batch.isEmpty
    return count
  }

  private func look(at frame: [UInt8]) {
    state.withLock { state in
      switch NumberedPacket.read(frame) {
      case .foreign: state.counts.announcements += 1
      case .damaged(let number): state.counts.fault = state.counts.fault ?? "packet \(number) is damaged"
      case .packet(let packet):
        if packet.number != state.counts.received, state.counts.fault == nil {
          state.counts.fault = "packet \(packet.number) instead of \(state.counts.received)"
        }
        state.counts.received = packet.number + 1
      }
    }
  }

  /// Sends to the guest, whose address the network knows since something has come from it; one in eight to everybody.
  private func send(_ count: Int, through port: SwitchPort) {
    let first: UInt64? = state.withLock { state in
      guard state.isSending, state.counts.received > 0 else { return nil }
      defer { state.counts.sent += UInt64(count) }
      return state.counts.sent
    }
    guard let first else { return }
    var batch = PacketBatch()
    for number in first..<first + UInt64(count) {
      let target = number % 8 == 7 ? Self.broadcast : [2, 0, 0, 0, 0, 1]
      batch.append(NumberedPacket(number: number, from: Self.address, to: target).bytes[...])
    }
    port.send(&batch)
  }
}
