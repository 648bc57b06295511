import CLinux
import Glibc

/// Frames of an existing network interface, as they pass it (`AF_PACKET`).
public enum PacketSocket {
  /// The header in front of each frame, both ways: `struct virtio_net_hdr` without its last field.
  public static let headerByteCount = 10

  /// Opens a socket for all frames that come in on an interface, whoever they are for. What goes out on it, by this
  /// socket or from this machine, is not seen.
  ///
  /// `EPERM` is thrown without the right to (`CAP_NET_RAW`). `IncomingMessages.vlanTag` has the tag of a frame, which
  /// has been taken out of it.
  public static func open(on interface: NetworkInterface) throws(LinuxError) -> Socket {
    // Nothing is received before it is bound.
    let socket = try Socket(family: AF_PACKET, type: SOCK_RAW.rawValue)
    try socket.setOption(SOL_PACKET, PACKET_VNET_HDR, to: 1)
    try socket.setOption(SOL_PACKET, PACKET_AUXDATA, to: 1)
    try socket.setOption(SOL_PACKET, PACKET_IGNORE_OUTGOING, to: 1)
    try bind(socket, to: interface)
    try receiveAll(socket, on: interface)
    return socket
  }

  /// `ETH_P_ALL`
  private static var allProtocols: UInt16 { 3 }

  private static func bind(_ socket: borrowing Socket, to interface: NetworkInterface) throws(LinuxError) {
    var address = sockaddr_ll()
    address.sll_family = UInt16(AF_PACKET)
    address.sll_protocol = allProtocols.bigEndian
    address.sll_ifindex = interface.index
    let number = socket.descriptor.rawValue
    _ = try retrying("bind", on: interface.name) {
      unsafe withUnsafePointer(to: &address) { (address) in
        unsafe address.withMemoryRebound(to: sockaddr.self, capacity: 1) { (address) in
          unsafe Glibc.bind(number, address, socklen_t(MemoryLayout<sockaddr_ll>.size))
        }
      }
    }
  }

  private static func receiveAll(_ socket: borrowing Socket, on interface: NetworkInterface) throws(LinuxError) {
    var membership = packet_mreq()
    membership.mr_ifindex = interface.index
    membership.mr_type = UInt16(PACKET_MR_PROMISC)
    let number = socket.descriptor.rawValue
    let byteCount = socklen_t(MemoryLayout<packet_mreq>.size)
    _ = try retrying("setsockopt(PACKET_ADD_MEMBERSHIP)", on: interface.name) {
      unsafe setsockopt(number, SOL_PACKET, PACKET_ADD_MEMBERSHIP, &membership, byteCount)
    }
  }
}
