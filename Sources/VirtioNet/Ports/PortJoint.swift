/// Two ports plugged into each other: a switch into a TAP device.
///
/// When a descriptor gives the sign, `carry` does the rest.
public final class PortJoint {
  private let first: any PacketPort
  private let second: any PacketPort
  private var toSecond = Way()
  private var toFirst = Way()

  /// One direction: what the source has given, and the target has yet to take.
  private struct Way: ~Copyable {
    var batch = PacketBatch()
    var fallback = OffloadFallback(.toPort)
  }

  public init(_ first: any PacketPort, _ second: any PacketPort) {
    self.first = first
    self.second = second
    first.setGivenOffloads(.all)
    second.setGivenOffloads(.all)
  }

  /// To be watched for changes, while this lives.
  public var descriptors: [Int32] { [first.descriptor, second.descriptor].compactMap(\.self) }

  /// Carries packets both ways until there are none, or their target has no room.
  public func carry() {
    Self.carry(from: first, to: second, &toSecond)
    Self.carry(from: second, to: first, &toFirst)
  }

  private static func carry(from source: any PacketPort, to target: any PacketPort, _ way: inout Way) {
    while true {
      repeat {
        way.fallback.adapt(&way.batch, from: .all, to: target.takenOffloads)
        target.send(&way.batch)
      } while way.batch.isEmpty && way.fallback.hasMore
      guard way.batch.isEmpty else { return }
      source.receive(into: &way.batch)
      if way.batch.isEmpty { return }
    }
  }
}
