import CLinux
import Glibc

/// Room for messages from a socket, many in one call.
///
/// Each has a place for the largest, but memory is used only for what has come. It never allocates after it was made.
@safe public struct IncomingMessages: ~Copyable {
  /// How many messages are here.
  public private(set) var count = 0
  /// How many fit.
  public let capacity: Int
  private let slotByteCount: Int
  private let slots: Mapping
  // SAFETY: allocated in init with room for `capacity`, freed in deinit. What `headers` point at lies in the other two
  // and in `slots`, which lives as long as this value.
  private let headers: UnsafeMutablePointer<mmsghdr>
  private let elements: UnsafeMutablePointer<iovec>
  private let controls: UnsafeMutableRawPointer

  /// For each message; without room, what else a peer sends with one is lost in the kernel.
  private let controlByteCount: Int

  /// - Parameters:
  ///   - capacity: how many messages fit, 1...1024.
  ///   - byteCount: the longest message that is wanted whole.
  ///   - hasTags: whether they are a packet socket's, so that there are tags.
  public init(capacity: Int, byteCount: Int, hasTags: Bool = false) throws(LinuxError) {
    precondition((1...1024).contains(capacity) && (1...1 << 20).contains(byteCount))
    self.capacity = capacity
    // An odd number of cache lines, so that the messages' beginnings do not all compete for the same ones.
    slotByteCount = (byteCount + 63) / 64 * 64 | 64
    // A control message's header and what the kernel says of a packet, with its alignment.
    controlByteCount = hasTags ? MemoryLayout<cmsghdr>.size + 24 : 0
    slots = try Mapping(anonymous: slotByteCount * capacity)
    unsafe headers = .allocate(capacity: capacity)
    unsafe elements = .allocate(capacity: capacity)
    unsafe controls = .allocate(byteCount: controlByteCount * capacity, alignment: 8)
    for index in 0..<capacity {
      unsafe (elements + index).initialize(to: iovec(iov_base: slots.base + index * slotByteCount, iov_len: byteCount))
      var header = unsafe mmsghdr()
      unsafe header.msg_hdr.msg_iov = elements + index
      unsafe header.msg_hdr.msg_iovlen = 1
      unsafe header.msg_hdr.msg_control = hasTags ? controls + index * controlByteCount : nil
      unsafe header.msg_hdr.msg_controllen = controlByteCount
      unsafe (headers + index).initialize(to: header)
    }
  }

  deinit {
    unsafe headers.deallocate()
    unsafe elements.deallocate()
    unsafe controls.deallocate()
  }

  /// Replaces what is here by what has come.
  /// - Returns: whether anything has; why the first could not be received is thrown.
  public mutating func receive(on socket: borrowing Socket) throws(LinuxError) -> Bool {
    // The kernel left there how much it stored.
    for index in 0..<count { unsafe headers[index].msg_hdr.msg_controllen = controlByteCount }
    count = 0
    let number = socket.descriptor.rawValue
    let flags = Int32(MSG_DONTWAIT)
    let received = try unlessItWaits("recvmmsg") {
      Int(unsafe recvmmsg(number, headers, UInt32(capacity), flags, nil))
    }
    count = received ?? 0
    return count > 0
  }

  /// How many bytes of a message are here.
  public func byteCount(_ index: Int) -> Int {
    precondition(index < count)
    return Int(unsafe headers[index].msg_len)
  }

  /// Whether a message was longer than there is room for.
  public func isTruncated(_ index: Int) -> Bool {
    precondition(index < count)
    return unsafe headers[index].msg_hdr.msg_flags & Int32(MSG_TRUNC) != 0
  }

  /// Copies a part of a message to a place in `bytes`; both must be there.
  public func copy(_ part: Range<Int>, of index: Int, to bytes: inout [UInt8], at offset: Int) {
    precondition(part.lowerBound >= 0 && part.upperBound <= byteCount(index))
    precondition(offset >= 0 && offset <= bytes.count && part.count <= bytes.count - offset)
    let source = unsafe slots.base + index * slotByteCount + part.lowerBound
    var span = bytes.mutableSpan
    unsafe span.withUnsafeMutableBytes { (buffer) in
      unsafe buffer.baseAddress.map { unsafe ($0 + offset).copyMemory(from: source, byteCount: part.count) }
    }
  }

  /// The tag that the kernel took out of a packet, as it was in it: protocol and control information; nil for none.
  public func vlanTag(_ index: Int) -> UInt32? {
    unsafe withControl(index) { (header, data) in
      guard header.cmsg_level == SOL_PACKET, header.cmsg_type == PACKET_AUXDATA,
        data.count >= MemoryLayout<tpacket_auxdata>.size
      else { return nil }
      let packet = unsafe data.load(as: tpacket_auxdata.self)
      guard packet.tp_status & UInt32(TP_STATUS_VLAN_VALID) != 0 else { return nil }
      let hasKind = packet.tp_status & UInt32(TP_STATUS_VLAN_TPID_VALID) != 0
      return UInt32(hasKind ? packet.tp_vlan_tpid : 0x8100) << 16 | UInt32(packet.tp_vlan_tci)
    }
  }

  /// Lends the control message that came with a message.
  private func withControl<Result>(
    _ index: Int, _ body: (cmsghdr, UnsafeRawBufferPointer) -> Result?
  ) -> Result? {
    precondition(index < count)
    let length = unsafe headers[index].msg_hdr.msg_controllen
    let headerByteCount = MemoryLayout<cmsghdr>.size
    guard length >= headerByteCount else { return nil }
    let start = unsafe controls + index * controlByteCount
    let header = unsafe start.load(as: cmsghdr.self)
    guard header.cmsg_len >= headerByteCount, header.cmsg_len <= length else { return nil }
    return unsafe body(
      header, UnsafeRawBufferPointer(start: start + headerByteCount, count: header.cmsg_len - headerByteCount))
  }
}
