/// What a packet's header leaves to be done, or what is wrong with it.
public enum HeaderCheck: Equatable, Sendable {
  /// Nothing is left to be done.
  case complete
  /// The checksum is to be completed.
  case checksum
  /// The packet is to be cut; its headers are as the header says.
  case segments(FrameHeaders)
  /// The packet is to be dropped.
  case wrong(DropReason)
}

extension NetHeader {
  /// The most segments that a packet may ask for: those of 64 KiB by 48 bytes, the least that Linux's TCP sends. More
  /// would let a single packet keep its card busy.
  public static let largestSegmentCount = 65535 / 48

  /// Checks what the header says against its frame and what was negotiated (5.1.6.2, 5.1.6.4).
  ///
  /// `headersByteCount` is a hint that may be wrong, and is not looked at.
  /// - Parameters:
  ///   - frame: where the frame lies in `bytes`.
  ///   - given: what whoever gives the packet may leave undone.
  public func check(_ bytes: borrowing [UInt8], _ frame: Range<Int>, given: Offloads) -> HeaderCheck {
    guard frame.count >= PacketBatch.smallestFrameByteCount else { return .wrong(.tooShort) }
    guard frame.count <= PacketBatch.largestFrameByteCount else { return .wrong(.tooLong) }
    guard flags.contains(.needsChecksum) else { return segmentation == .none ? .complete : .wrong(.badHeader) }
    guard given.contains(.checksum) else { return .wrong(.notNegotiated) }
    guard Int(checksumStart) >= PacketBatch.smallestFrameByteCount,
      Int(checksumStart) + Int(checksumOffset) + 2 <= frame.count
    else { return .wrong(.badHeader) }
    return segmentation == .none ? .checksum : checkSegments(bytes, frame, given: given)
  }

  /// What may be left undone by whom this packet comes from, if it has such headers.
  /// - Returns: nil when the frame is not what is to be cut.
  func offloads(_ headers: FrameHeaders) -> Offloads? {
    let congestion: Offloads = hasCongestionBit ? .congestion : []
    switch (segmentation, headers.transport, headers.network) {
    case (.none, _, _): return hasCongestionBit ? nil : []
    case (.tcp4, .tcp, .ip4): return congestion.union(.tcp4)
    case (.tcp6, .tcp, .ip6): return congestion.union(.tcp6)
    case (.udpFragments, .udp, .some): return hasCongestionBit ? nil : .udpFragments
    case (.udpDatagrams, .udp, .ip4): return hasCongestionBit ? nil : .udp4
    case (.udpDatagrams, .udp, .ip6): return hasCongestionBit ? nil : .udp6
    default: return nil
    }
  }

  private func checkSegments(_ bytes: borrowing [UInt8], _ frame: Range<Int>, given: Offloads) -> HeaderCheck {
    guard given.contains(anyOf: segmentation) else { return .wrong(.notNegotiated) }
    guard let headers = FrameHeaders(bytes, frame), let offloads = offloads(headers) else { return .wrong(.badHeader) }
    guard given.isSuperset(of: offloads) else { return .wrong(.notNegotiated) }
    let sumPlace = headers.transport == .tcp ? 16 : 6
    guard Int(checksumStart) == headers.transportStart - frame.lowerBound, Int(checksumOffset) == sumPlace else {
      return .wrong(.badHeader)
    }
    let unit = segmentation == .udpFragments ? Int(segmentByteCount) & ~7 : Int(segmentByteCount)
    guard unit > 0, (headers.packetEnd - headers.payloadStart) / unit < Self.largestSegmentCount else {
      return .wrong(.badHeader)
    }
    return .segments(headers)
  }
}

extension Offloads {
  /// Whether such packets may be left uncut, over one version of IP at least.
  fileprivate func contains(anyOf segmentation: NetHeader.Segmentation) -> Bool {
    switch segmentation {
    case .none: true
    case .tcp4: contains(.tcp4)
    case .tcp6: contains(.tcp6)
    case .udpFragments: contains(.udpFragments)
    case .udpDatagrams: !isDisjoint(with: [.udp4, .udp6])
    }
  }
}

extension NetHeader {
  /// Completes the checksum of a frame whose header was found to ask for that (`HeaderCheck.checksum`), and says so.
  public mutating func completeChecksum(in bytes: inout [UInt8], _ frame: Range<Int>) {
    let start = frame.lowerBound + Int(checksumStart)
    var checksum = InternetChecksum()
    // What is there already is the sum of the pseudo header.
    checksum.add(bytes, start..<frame.upperBound)
    bytes.setBigEndian16(checksum.transportValue, at: start + Int(checksumOffset))
    flags.remove(.needsChecksum)
    checksumStart = 0
    checksumOffset = 0
  }
}
