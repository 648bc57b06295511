/// Does in packets what was left undone and their receiver does not do: completes checksums, cuts segments.
///
/// It stands between a card and its port, one for each direction of a pair of queues. Packets stay in order, and what
/// is not right is dropped. A batch in which nothing is to be done is only looked at.
public struct OffloadFallback: ~Copyable {
  /// Which way packets go.
  public enum Direction: Sendable {
    /// From a driver, which must not say that a checksum was found right (5.1.6.2.1).
    case toPort
    /// From a port, which may.
    case toDriver
  }

  private let direction: Direction
  /// The packets that are still to be adapted while there is more; otherwise empty, and its memory to be used.
  private var rest: PacketBatch?
  /// What is left of the first of them when it is half cut.
  private var segmenter: Segmenter?

  /// Whether a batch became too full: there is more for it when all in it has been taken.
  public private(set) var hasMore = false
  /// How many packets were dropped, by reason.
  public private(set) var drops: [DropReason: UInt64] = [:]

  public init(_ direction: Direction) {
    self.direction = direction
  }

  /// Makes of a batch one in which nothing is undone that its receiver does not do.
  ///
  /// Segments may be more than a batch takes. So call it until the batch is empty and there is no more:
  ///
  ///     repeat {
  ///       fallback.adapt(&batch, from: given, to: port.takenOffloads)
  ///       port.send(&batch)
  ///     } while batch.isEmpty && fallback.hasMore
  ///
  /// While `hasMore`, add no packets to the batch: when it is empty it is filled with what follows, and otherwise
  /// left as it is.
  /// - Parameters:
  ///   - given: what whoever gives the packets may leave undone; what leaves more is dropped.
  ///   - taken: what the receiver does.
  public mutating func adapt(_ batch: inout PacketBatch, from given: Offloads, to taken: Offloads) {
    let terms = Terms(given: given, taken: taken, direction: direction)
    if hasMore {
      if batch.isEmpty { refill(&batch, terms) }
      return
    }
    for index in 0..<batch.count {
      guard case .pass = terms.settle(&batch, index) else {
        // From here on packets change their number.
        var empty = rest.take() ?? PacketBatch(byteCount: batch.bytes.count)
        swap(&empty, &batch)
        rest = consume empty
        refill(&batch, terms)
        return
      }
    }
  }

  /// How many packets are not adapted yet, or only in part.
  public var waitingCount: Int {
    switch rest {
    case .none: 0
    case .some(let rest): rest.count
    }
  }

  /// Takes what was counted of dropped packets since the last time.
  mutating func takeDrops() -> [DropReason: UInt64] {
    defer { drops.removeAll(keepingCapacity: true) }
    return drops
  }

  /// Forgets packets that are not adapted yet.
  public mutating func removeAll() {
    rest = nil
    segmenter = nil
    hasMore = false
  }

  /// Moves packets over into an empty batch, until there are none or it has no room.
  private mutating func refill(_ batch: inout PacketBatch, _ terms: Terms) {
    guard var source = rest.take() else { return }
    while !source.isEmpty, move(&source, to: &batch, terms) { source.removeFirst() }
    hasMore = !source.isEmpty
    rest = consume source
  }

  /// Moves the first packet.
  /// - Returns: false when there is no room for all of it.
  private mutating func move(_ source: inout PacketBatch, to batch: inout PacketBatch, _ terms: Terms) -> Bool {
    if segmenter == nil {
      switch terms.settle(&source, 0) {
      case .pass: return batch.append(packet: 0, of: source)
      case .drop(let reason):
        drops[reason, default: 0] &+= 1
        return true
      case .cut(let header, let headers):
        segmenter = Segmenter(source.bytes, header, headers, identification: .random(in: .min ... .max))
      }
    }
    segmenter?.cut(source.bytes, into: &batch)
    guard segmenter?.isDone == true else { return false }
    segmenter = nil
    return true
  }
}

extension OffloadFallback {
  /// What becomes of a packet.
  private enum Fate {
    case pass
    case cut(NetHeader, FrameHeaders)
    case drop(DropReason)
  }

  /// Between whom packets go.
  private struct Terms {
    let given: Offloads
    let taken: Offloads
    let flags: NetHeader.Flags

    init(given: Offloads, taken: Offloads, direction: Direction) {
      self.given = given
      self.taken = taken
      if taken.contains(.checksum) {
        flags = direction == .toDriver ? [.needsChecksum, .dataValid] : [.needsChecksum]
      } else {
        flags = []
      }
    }

    /// Looks at a packet, and makes it ready in its place if that can be.
    func settle(_ batch: inout PacketBatch, _ index: Int) -> Fate {
      let packet = batch.packet(index)
      let start = packet.lowerBound
      let frame = start + NetHeader.byteCount..<packet.upperBound
      guard frame.count >= PacketBatch.smallestFrameByteCount else { return .drop(.tooShort) }
      guard frame.count <= PacketBatch.largestFrameByteCount else { return .drop(.tooLong) }
      // Most packets: no flags, no segmentation, no hint.
      return batch.bytes.bigEndian32(at: start) == 0 ? .pass : settle(&batch.bytes, start, frame)
    }

    /// Not inlined, so that packets of which nothing is asked do not pay for what it keeps alive.
    @inline(never)
    private func settle(_ bytes: inout [UInt8], _ start: Int, _ frame: Range<Int>) -> Fate {
      guard let asked = NetHeader(bytes, at: start) else { return .drop(.badHeader) }
      var header = asked
      header.headersByteCount = 0
      switch asked.check(bytes, frame, given: given) {
      case .wrong(let reason): return .drop(reason)
      case .complete: break
      case .checksum:
        if !taken.contains(.checksum) { header.completeChecksum(in: &bytes, frame) }
      case .segments(let headers):
        guard let offloads = asked.offloads(headers), taken.isSuperset(of: offloads.union(.checksum)) else {
          return .cut(asked, headers)
        }
        // A receiver may refuse a hint that lies outside the frame.
        header.headersByteCount = UInt16(truncatingIfNeeded: headers.payloadStart - frame.lowerBound)
      }
      header.flags.formIntersection(flags)
      if header != asked { header.store(in: &bytes, at: start) }
      return .pass
    }
  }
}
