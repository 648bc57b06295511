/// Where one card joins a `LearningSwitch`.
///
/// It always takes everything: what its receiver is too slow for is lost. Its descriptor is signalled only when there is
/// something again after there was nothing.
public final class SwitchPort: PacketPort {
  public let name: String
  public let vlans: PortVLANs
  private let network: LearningSwitch
  private let place: Int
  private let queue: SwitchQueue

  init(_ network: LearningSwitch, _ place: Int, _ queue: SwitchQueue, name: String, _ vlans: PortVLANs) {
    self.network = network
    self.place = place
    self.queue = queue
    self.name = "switch:\(name)"
    self.vlans = vlans
  }

  deinit {
    network.remove(queue)
  }

  public var takenOffloads: Offloads { .all }

  /// Nothing happens: a switch gives packets as their senders have left them.
  public func setGivenOffloads(_ offloads: Offloads) {}

  public var descriptor: Int32? { queue.descriptor }

  public func send(_ batch: inout PacketBatch) {
    guard !batch.isEmpty else { return }
    network.pass(batch, from: place, queue, vlans)
    batch.removeAll()
  }

  public func receive(into batch: inout PacketBatch) {
    queue.move(into: &batch)
  }

  public var counters: PortCounters { network.counters(of: queue, at: place) }

  public var failure: PortError? { queue.isClosed ? .disconnected(name) : nil }
}
