@testable import VirtioNet

/// A frame made field by field. It shares no layout with what is tested.
struct TestFrame {
  enum Transport { case tcp, udp }

  var tags: [(kind: UInt16, control: UInt16)] = []
  var isIP6 = false
  /// IPv4 options, a multiple of four bytes.
  var options: [UInt8] = []
  /// IPv6 extension headers: their number, and all bytes behind the next header field.
  var extensions: [(kind: UInt8, rest: [UInt8])] = []
  var transport = Transport.tcp
  var tcpOptions: [UInt8] = []
  var tcpFlags: UInt8 = 0x10
  var sequence: UInt32 = 0xFFFF_FF00
  var identification: UInt16 = 0xFFFE
  var ip4Flags: UInt16 = 0x4000
  var source: [UInt8] = [10, 0, 0, 1]
  var target: [UInt8] = [10, 0, 0, 2]
  var ports: [UInt8] = [0xC0, 0x01, 0x00, 0x50]
  var payload: [UInt8] = []

  static func ip6(_ transport: Transport, payload: [UInt8] = []) -> TestFrame {
    var frame = TestFrame()
    frame.isIP6 = true
    frame.transport = transport
    frame.source = [0xFD, 0] + [UInt8](repeating: 0, count: 13) + [1]
    frame.target = [0xFD, 0] + [UInt8](repeating: 0, count: 13) + [2]
    frame.payload = payload
    return frame
  }

  static func ip4(_ transport: Transport, payload: [UInt8] = []) -> TestFrame {
    var frame = TestFrame()
    frame.transport = transport
    frame.payload = payload
    return frame
  }

  var ethernet: [UInt8] {
    let tags = tags.flatMap { big($0.kind) + big($0.control) }
    return [0x52, 0x54, 0, 0, 0, 2, 0x52, 0x54, 0, 0, 0, 1] + tags + (isIP6 ? [0x86, 0xDD] : [0x08, 0x00])
  }

  /// TCP or UDP, with zero for a checksum.
  var segment: [UInt8] {
    switch transport {
    case .tcp:
      let offset = UInt8((20 + tcpOptions.count) / 4) << 4
      return ports + big(sequence) + [0, 0, 0, 9, offset, tcpFlags, 0x20, 0, 0, 0, 0, 0] + tcpOptions + payload
    case .udp: return ports + big(UInt16(8 + payload.count)) + [0, 0] + payload
    }
  }

  private var number: UInt8 { transport == .tcp ? 6 : 17 }

  /// The IP header with all that is between it and the segment.
  var ip: [UInt8] {
    if isIP6 {
      var kinds = extensions.map { $0.kind } + [number]
      let first = kinds.removeFirst()
      let between = zip(kinds, extensions).flatMap { [$0] + $1.rest }
      return [0x60, 0, 0, 0] + big(UInt16(between.count + segment.count)) + [first, 64] + source + target + between
    }
    let total = UInt16(20 + options.count + segment.count)
    var header: [UInt8] = [0x45 + UInt8(options.count / 4), 0] + big(total) + big(identification) + big(ip4Flags)
    header += [64, number, 0, 0] + source + target + options
    let sum = ~Reference.sum(header)
    header[10] = UInt8(sum >> 8)
    header[11] = UInt8(sum & 255)
    return header
  }

  /// The sum of the pseudo header, as a driver leaves it in the checksum field.
  var pseudoSum: UInt16 {
    Reference.sum(source + target + [0, number] + big(UInt16(segment.count)))
  }

  /// Where the checksum is in the segment.
  var checksumOffset: Int { transport == .tcp ? 16 : 6 }
  var headersByteCount: Int { ethernet.count + ip.count + segment.count - payload.count }

  /// The frame with its checksum completed.
  var complete: [UInt8] {
    var segment = segment
    let sum = ~Reference.sum(source + target + [0, number] + big(UInt16(segment.count)) + segment)
    segment.replaceSubrange(checksumOffset..<checksumOffset + 2, with: big(sum == 0 ? 0xFFFF : sum))
    return ethernet + ip + segment
  }

  /// The frame as a driver gives it that leaves the checksum to the device.
  var partial: [UInt8] {
    var segment = segment
    segment.replaceSubrange(checksumOffset..<checksumOffset + 2, with: big(pseudoSum))
    return ethernet + ip + segment
  }

  /// The header that belongs to `partial`.
  func header(_ segmentation: NetHeader.Segmentation = .none, size: Int = 0) -> NetHeader {
    var header = NetHeader()
    header.flags = .needsChecksum
    header.segmentation = segmentation
    header.segmentByteCount = UInt16(size)
    header.checksumStart = UInt16(ethernet.count + ip.count)
    header.checksumOffset = UInt16(checksumOffset)
    return header
  }
}

func big(_ number: UInt16) -> [UInt8] { [UInt8(number >> 8), UInt8(number & 255)] }
func big(_ number: UInt32) -> [UInt8] { big(UInt16(number >> 16)) + big(UInt16(number & 0xFFFF)) }
