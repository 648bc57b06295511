public import LinuxIO

/// Two ports plugged into each other: a switch into a TAP device.
///
/// When a descriptor gives the sign, `carry` does the rest.
public final class PortJoint {
  private let first: any PacketPort
  private let second: any PacketPort
  private var toSecond = Way()
  private var toFirst = Way()
  /// Given by the joint to itself.
  private let sign: Eventfd
  private let report: (PortError) -> Void
  /// What has been told last.
  private var reported: PortError?

  /// How many batches are carried each way in one call, so that none lasts for as long as packets come.
  private static var batchesOfTurn: Int { 16 }

  /// One direction: what the source has given, and the target has yet to take.
  private struct Way: ~Copyable {
    var batch = PacketBatch()
    var fallback = OffloadFallback(.toPort)
  }

  /// - Parameter report: told why one of the ports carries nothing any more, once for each reason.
  public init(
    _ first: any PacketPort, _ second: any PacketPort, report: @escaping (PortError) -> Void = { _ in }
  ) throws(LinuxError) {
    sign = try Eventfd()
    self.report = report
    self.first = first
    self.second = second
    first.setGivenOffloads(.all)
    second.setGivenOffloads(.all)
  }

  /// To be watched for changes, while this lives.
  public var descriptors: [Int32] {
    [first.descriptor, second.descriptor, sign.descriptor.rawValue].compactMap(\.self)
  }

  /// Carries packets both ways until there are none, or their target has no room. After very many, one of the descriptors
  /// gives the sign to go on.
  public func carry() {
    let isDoneFirst = Self.carry(from: first, to: second, &toSecond)
    let isDoneSecond = Self.carry(from: second, to: first, &toFirst)
    if !isDoneFirst || !isDoneSecond { sign.signal() }
    noteFailure()
  }

  /// Why one of the ports carries nothing any more; nil while both do.
  public var failure: PortError? { first.failure ?? second.failure }

  /// Packets that neither port was sent, since their headers were wrong, by reason. Ports count their own.
  public var drops: [DropReason: UInt64] {
    toSecond.fallback.drops.merging(toFirst.fallback.drops) { $0 &+ $1 }
  }

  private func noteFailure() {
    let failure = failure
    guard failure != reported else { return }
    reported = failure
    if let failure { report(failure) }
  }

  /// - Returns: false when there may be more.
  private static func carry(from source: any PacketPort, to target: any PacketPort, _ way: inout Way) -> Bool {
    for _ in 0..<batchesOfTurn {
      repeat {
        way.fallback.adapt(&way.batch, from: .all, to: target.takenOffloads)
        target.send(&way.batch)
      } while way.batch.isEmpty && way.fallback.hasMore
      guard way.batch.isEmpty else { return true }
      source.receive(into: &way.batch)
      if way.batch.isEmpty { return true }
    }
    return false
  }
}
