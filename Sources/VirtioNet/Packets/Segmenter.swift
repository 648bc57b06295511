/// Cuts one packet into segments of which each is complete: lengths, checksums, numbers.
///
/// TCP is cut into segments, UDP into datagrams, or one datagram into IP fragments. Segments are written while there
/// is room, and the rest another time; the packet must stay as it is until then.
struct Segmenter {
  /// The longest piece of a datagram in a fragment, so that fragments with their headers are no longer than any frame.
  private static let largestFragmentByteCount = 32768

  let headers: FrameHeaders
  let segmentation: NetHeader.Segmentation
  /// What is cut; what lies before it is in front of each segment.
  private let data: Range<Int>
  private let pieceByteCount: Int
  /// In front of a piece, with what is added for fragments.
  private let headersByteCount: Int
  /// Names the datagram that IPv6 fragments are of.
  private let identification: UInt32
  /// The sum of the pseudo header without a length; for fragments of all the datagram.
  private let sum: InternetChecksum
  /// In front of each segment: nothing is left to be done.
  private var header = NetHeader()
  /// Where in `data` the next segment begins.
  private var place: Int
  private var count: UInt16 = 0

  /// - Parameters:
  ///   - header: one whose check gave `headers`.
  ///   - identification: for IPv6 fragments, a number that cannot be guessed.
  init(_ bytes: borrowing [UInt8], _ header: NetHeader, _ headers: FrameHeaders, identification: UInt32) {
    self.headers = headers
    self.identification = identification
    segmentation = header.segmentation
    let transport = headers.transportStart..<headers.packetEnd
    var sum = InternetChecksum()
    if segmentation == .udpFragments {
      data = transport
      sum.add(bytes, transport)
      // The driver may have left the length out.
      sum.subtract(bytes.bigEndian16(at: transport.lowerBound + 4))
      sum.add(UInt16(truncatingIfNeeded: transport.count))
      let isWhole = data.count <= Int(header.segmentByteCount)
      pieceByteCount = isWhole ? data.count : min(Int(header.segmentByteCount), Self.largestFragmentByteCount) & ~7
      let added = !isWhole && headers.network == .ip6 ? FragmentHeader.byteCount : 0
      headersByteCount = data.lowerBound - headers.frame.lowerBound + added
    } else {
      data = headers.payloadStart..<headers.packetEnd
      sum.add(bytes.bigEndian16(at: headers.transportStart + (headers.transport == .tcp ? 16 : 6)))
      sum.subtract(UInt16(truncatingIfNeeded: transport.count))
      pieceByteCount = Int(header.segmentByteCount)
      headersByteCount = data.lowerBound - headers.frame.lowerBound
    }
    self.sum = sum
    self.header.bufferCount = header.bufferCount
    place = data.lowerBound
  }

  /// Whether every segment has been written.
  private(set) var isDone = false

  /// Writes segments until all are written or there is no room.
  /// - Parameter bytes: those that the packet lies in, unchanged.
  mutating func cut(_ bytes: borrowing [UInt8], into output: inout PacketBatch) {
    while !isDone {
      let piece = place..<min(place + pieceByteCount, data.upperBound)
      guard output.hasRoom(for: headersByteCount + piece.count) else { return }
      let start = output.nextPacket
      header.store(in: &output.bytes, at: start)
      write(bytes, piece, in: &output.bytes, at: start + NetHeader.byteCount)
      output.commit(headersByteCount + piece.count)
      place = piece.upperBound
      count &+= 1
      isDone = place == data.upperBound
    }
  }

  private func write(_ bytes: borrowing [UInt8], _ piece: Range<Int>, in output: inout [UInt8], at start: Int) {
    let front = headers.frame.lowerBound..<data.lowerBound
    let end = start + headersByteCount + piece.count
    output.replaceSubrange(start..<start + front.count, with: bytes[front])
    output.replaceSubrange(start + headersByteCount..<end, with: bytes[piece])
    let segment = Segment(
      shift: start - headers.frame.lowerBound, end: end, isFirst: piece.lowerBound == data.lowerBound,
      isLast: piece.upperBound == data.upperBound)
    if segmentation == .udpFragments {
      finishFragment(segment, &output, offset: piece.lowerBound - data.lowerBound)
    } else {
      finishTransport(segment, &output, offset: piece.lowerBound - data.lowerBound)
    }
    finishNetwork(segment, &output)
  }

  /// A segment being written.
  struct Segment {
    /// What to add to a place in the packet for the same place in the segment.
    var shift: Int
    /// Where the segment ends.
    var end: Int
    var isFirst: Bool
    var isLast: Bool
  }
}

extension Segmenter {
  /// TCP's flags (RFC 9293, 3.1).
  private enum TCPFlags {
    static let onlyLast: UInt8 = 0x01 | 0x08  // FIN, PSH
    static let onlyFirst: UInt8 = 0x80  // CWR
  }

  private func finishTransport(_ segment: Segment, _ output: inout [UInt8], offset: Int) {
    let start = headers.transportStart + segment.shift
    let byteCount = UInt16(truncatingIfNeeded: segment.end - start)
    let sumPlace: Int
    if headers.transport == .tcp {
      sumPlace = start + 16
      let sequence = output.bigEndian32(at: start + 4)
      output.setBigEndian32(sequence &+ UInt32(truncatingIfNeeded: offset), at: start + 4)
      if !segment.isLast { output[start + 13] &= ~TCPFlags.onlyLast }
      if !segment.isFirst { output[start + 13] &= ~TCPFlags.onlyFirst }
    } else {
      sumPlace = start + 6
      output.setBigEndian16(byteCount, at: start + 4)
    }
    output.setBigEndian16(0, at: sumPlace)
    var checksum = sum
    checksum.add(byteCount)
    checksum.add(output, start..<segment.end)
    output.setBigEndian16(checksum.transportValue, at: sumPlace)
  }

  /// Sets what differs from segment to segment in the IP header, and then its checksum.
  private func finishNetwork(_ segment: Segment, _ output: inout [UInt8]) {
    let start = headers.networkStart + segment.shift
    guard headers.network == .ip4 else {
      output.setBigEndian16(UInt16(truncatingIfNeeded: segment.end - start - 40), at: start + 4)
      return
    }
    output.setBigEndian16(UInt16(truncatingIfNeeded: segment.end - start), at: start + 2)
    if segmentation != .udpFragments {
      output.setBigEndian16(output.bigEndian16(at: start + 4) &+ count, at: start + 4)
    }
    output.setBigEndian16(0, at: start + 10)
    var checksum = InternetChecksum()
    checksum.add(output, start..<headers.transportStart + segment.shift)
    output.setBigEndian16(checksum.value, at: start + 10)
  }
}

extension Segmenter {
  /// IPv6's fragment header (RFC 8200, 4.5).
  private enum FragmentHeader {
    static let byteCount = 8
  }

  /// Makes a fragment of what was copied. A datagram that fits into one stays whole.
  private func finishFragment(_ segment: Segment, _ output: inout [UInt8], offset: Int) {
    if segment.isFirst {
      let datagram = headers.frame.lowerBound + segment.shift + headersByteCount
      output.setBigEndian16(UInt16(truncatingIfNeeded: data.count), at: datagram + 4)
      output.setBigEndian16(sum.transportValue, at: datagram + 6)
    }
    guard !(segment.isFirst && segment.isLast) else { return }
    if headers.network == .ip4 {
      let more: UInt16 = segment.isLast ? 0 : 0x2000
      let field = UInt16(truncatingIfNeeded: offset / 8) | more
      output.setBigEndian16(field, at: headers.networkStart + segment.shift + 6)
    } else {
      insertFragmentHeader(segment, &output, offset: offset)
    }
  }

  private func insertFragmentHeader(_ segment: Segment, _ output: inout [UInt8], offset: Int) {
    let start = headers.transportStart + segment.shift
    output[headers.protocolPlace + segment.shift] = InternetProtocol.fragment
    output[start] = InternetProtocol.udp
    output[start + 1] = 0
    output.setBigEndian16(UInt16(truncatingIfNeeded: offset) | (segment.isLast ? 0 : 1), at: start + 2)
    output.setBigEndian32(identification, at: start + 4)
  }
}
