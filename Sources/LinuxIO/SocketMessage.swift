import CLinux
import Glibc

/// One `sendmsg` or `recvmsg`, with the descriptors in its control data; both return what the call returned.
///
/// The control data is one `SCM_RIGHTS` message: a 16-byte header, then the descriptors' numbers. The C macros for its
/// layout do not reach Swift.
enum SocketMessage {
  /// The most descriptors that the kernel passes in one message (`SCM_MAX_FD`).
  static let largestDescriptorCount = 253

  private static let headerByteCount = MemoryLayout<cmsghdr>.size

  /// Sends without waiting and without a signal when the peer is gone.
  @unsafe static func send(
    _ elements: UnsafeMutablePointer<iovec>, _ count: Int, descriptors: [Int32], on socket: Int32
  ) -> Int {
    var message = unsafe msghdr()
    unsafe message.msg_iov = elements
    unsafe message.msg_iovlen = count
    let flags = Int32(MSG_NOSIGNAL | MSG_DONTWAIT)
    guard !descriptors.isEmpty else { return unsafe sendmsg(socket, &message, flags) }
    let byteCount = headerByteCount + 4 * descriptors.count
    return unsafe withUnsafeTemporaryAllocation(byteCount: byteCount, alignment: 8) { control in
      var header = cmsghdr()
      header.cmsg_len = byteCount
      header.cmsg_level = SOL_SOCKET
      header.cmsg_type = Int32(SCM_RIGHTS)
      unsafe control.storeBytes(of: header, as: cmsghdr.self)
      for (index, number) in descriptors.enumerated() {
        unsafe control.storeBytes(of: number, toByteOffset: headerByteCount + 4 * index, as: Int32.self)
      }
      unsafe message.msg_control = control.baseAddress
      unsafe message.msg_controllen = byteCount
      return unsafe sendmsg(socket, &message, flags)
    }
  }

  /// The same, of memory that the kernel may read later.
  @unsafe static func sendInPlace(_ elements: UnsafeMutablePointer<iovec>, _ count: Int, on socket: Int32) -> Int {
    var message = unsafe msghdr()
    unsafe message.msg_iov = elements
    unsafe message.msg_iovlen = count
    return unsafe sendmsg(socket, &message, Int32(Int(MSG_NOSIGNAL) | Int(MSG_DONTWAIT) | Int(CLINUX_MSG_ZEROCOPY)))
  }

  /// Receives without waiting; descriptors that come along are appended to `list`.
  /// - Returns: also whether descriptors were lost: more than `room` came, or this process has too many open.
  @unsafe static func receive(
    _ elements: UnsafeMutablePointer<iovec>, _ count: Int, appendingTo list: inout DescriptorList, room: Int,
    on socket: Int32
  ) -> (result: Int, lostDescriptors: Bool) {
    var message = unsafe msghdr()
    unsafe message.msg_iov = elements
    unsafe message.msg_iovlen = count
    let flags = Int32(MSG_CMSG_CLOEXEC | MSG_DONTWAIT)
    // Not rounded up to the alignment: the kernel would put one more descriptor into the padding.
    let byteCount = room > 0 ? headerByteCount + 4 * room : 0
    let result = unsafe withUnsafeTemporaryAllocation(byteCount: byteCount, alignment: 8) { control in
      unsafe message.msg_control = byteCount > 0 ? control.baseAddress : nil
      unsafe message.msg_controllen = byteCount
      let result = unsafe recvmsg(socket, &message, flags)
      if result >= 0 { unsafe takeDescriptors(from: control, length: message.msg_controllen, into: &list) }
      return result
    }
    return unsafe (result, result >= 0 && message.msg_flags & Int32(MSG_CTRUNC) != 0)
  }

  /// Receives bytes alone, without waiting; descriptors that come along are closed by the kernel.
  @unsafe static func receive(_ elements: UnsafeMutablePointer<iovec>, _ count: Int, on socket: Int32) -> Int {
    var message = unsafe msghdr()
    unsafe message.msg_iov = elements
    unsafe message.msg_iovlen = count
    return unsafe recvmsg(socket, &message, Int32(MSG_DONTWAIT))
  }

  private static func takeDescriptors(
    from control: UnsafeMutableRawBufferPointer, length: Int, into list: inout DescriptorList
  ) {
    var start = 0
    while start + headerByteCount <= length {
      let header = unsafe control.load(fromByteOffset: start, as: cmsghdr.self)
      guard header.cmsg_len >= headerByteCount, header.cmsg_len <= length - start else { return }
      if header.cmsg_level == SOL_SOCKET, header.cmsg_type == Int32(SCM_RIGHTS) {
        let end = start + header.cmsg_len
        for offset in stride(from: start + headerByteCount, to: end - 3, by: 4) {
          list.append(FileDescriptor(owning: unsafe control.load(fromByteOffset: offset, as: Int32.self)))
        }
      }
      start += (header.cmsg_len + 7) & ~7
    }
  }
}
