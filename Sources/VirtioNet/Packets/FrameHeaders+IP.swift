extension FrameHeaders {
  /// Reads an IPv4 header with its options (RFC 791, 3.1).
  mutating func readIP4(_ frame: Span<UInt8>) {
    let start = Int(networkStartInFrame)
    let room = frame.count - start
    guard room >= 20, frame[start] >> 4 == 4 else { return }
    let headerByteCount = UInt16(frame[start] & 15) * 4
    guard headerByteCount >= 20, headerByteCount <= room else { return }
    let byteCount = Int(frame.bigEndian16(at: start + 2))
    guard setPacketEnd(byteCount, atLeast: Int(headerByteCount), room: room) else { return }
    network = .ip4
    protocolInFrame = networkStartInFrame + 9
    transportStartInFrame = networkStartInFrame + headerByteCount
    // More fragments, or not the first.
    isFragment = frame.bigEndian16(at: start + 6) & 0x3FFF != 0
  }

  /// Reads an IPv6 header and the extension headers behind it (RFC 8200, 3 and 4).
  mutating func readIP6(_ frame: Span<UInt8>) {
    let start = Int(networkStartInFrame)
    let room = frame.count - start
    guard room >= 40, frame[start] >> 4 == 6 else { return }
    let payloadByteCount = Int(frame.bigEndian16(at: start + 4))
    guard setPacketEnd(payloadByteCount == 0 ? 0 : 40 + payloadByteCount, atLeast: 40, room: room) else { return }
    network = .ip6
    protocolInFrame = networkStartInFrame + 6
    transportStartInFrame = networkStartInFrame + 40
    for _ in 0..<Self.largestExtensionCount {
      guard readExtension(frame) else { return }
    }
  }

  /// Puts the end of the packet where its header says.
  /// - Parameter byteCount: what the header says; 0 in what is to be cut by some drivers, whose packets end with the
  ///   frame.
  private mutating func setPacketEnd(_ byteCount: Int, atLeast least: Int, room: Int) -> Bool {
    guard byteCount != 0 else { return room <= 65535 }
    guard byteCount >= least, byteCount <= room else { return false }
    packetEndInFrame = UInt32(truncatingIfNeeded: Int(networkStartInFrame) + byteCount)
    return true
  }

  /// Steps over one extension header.
  /// - Returns: false when there is none, or none that is whole, or only data behind it.
  private mutating func readExtension(_ frame: Span<UInt8>) -> Bool {
    let start = Int(transportStartInFrame)
    let kind = frame[Int(protocolInFrame)]
    let byteCount: Int
    switch kind {
    case InternetProtocol.hopByHop, InternetProtocol.routing, InternetProtocol.destinationOptions:
      guard Int(packetEndInFrame) - start >= 8 else { return false }
      byteCount = (Int(frame[start + 1]) + 1) * 8
    case InternetProtocol.fragment: byteCount = 8
    default: return false
    }
    hasExtensions = true
    guard byteCount <= Int(packetEndInFrame) - start else { return false }
    switch kind {
    case InternetProtocol.routing: readRoute(frame, start..<start + byteCount)
    case InternetProtocol.destinationOptions: readOptions(frame, start..<start + byteCount)
    case InternetProtocol.fragment: isFragment = true
    default: break
    }
    protocolInFrame = transportStartInFrame
    transportStartInFrame += UInt16(truncatingIfNeeded: byteCount)
    return !isFragment
  }

  private mutating func readRoute(_ frame: Span<UInt8>, _ header: Range<Int>) {
    guard frame[header.lowerBound + 2] == 2, header.count == 24 else { return }
    routedAddressInFrame = UInt16(truncatingIfNeeded: header.lowerBound + 8)
  }

  /// Looks for the home address among destination options.
  private mutating func readOptions(_ frame: Span<UInt8>, _ header: Range<Int>) {
    var place = header.lowerBound + 2
    while place < header.upperBound {
      // The first padding option is a single byte; all others have a length.
      guard frame[place] != 0 else {
        place += 1
        continue
      }
      guard place + 2 <= header.upperBound else { return }
      let byteCount = Int(frame[place + 1])
      guard byteCount <= header.upperBound - place - 2 else { return }
      if frame[place] == 0xC9, byteCount == 16 { homeAddressInFrame = UInt16(truncatingIfNeeded: place + 2) }
      place += 2 + byteCount
    }
  }
}
