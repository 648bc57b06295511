public import LinuxIO

/// Why a port cannot be opened, or carries nothing any more.
public enum PortError: Error, Equatable, CustomStringConvertible {
  /// This program may not make or open the TAP device of this name.
  case notPermitted(device: String)
  /// This program may not see and send the frames of this network interface.
  case noPacketSocket(interface: String)
  /// The TAP device is there, and was made for one queue.
  case oneQueue(device: String)
  /// The network interface of this name is no TAP device.
  case notTap(device: String)
  /// There is no network interface of this name.
  case noInterface(String)
  /// The kernel has no TAP devices.
  case noTap
  /// An inherited descriptor of a network interface that does not carry Ethernet frames behind headers.
  case noTapWithHeaders(descriptor: Int32)
  /// Another program has the device or the address, or a file that is no socket is there.
  case taken(String)
  /// What the kernel said.
  case system(String, LinuxError)
  /// Whoever was connected has gone.
  case disconnected(String)
  /// The peer sent what no peer sends: a frame's length beyond all bounds.
  case illegalLength(String, byteCount: UInt32)
  /// A name that no device can have: longer than 15 bytes, or empty, or with a slash or a space.
  case illegalName(String)
  /// A number that no VLAN has: not 1 to 4094.
  case illegalVLAN(UInt16)

  public var description: String {
    switch self {
    case .notPermitted(let device):
      """
      \(device) cannot be opened without the right to: run as root, grant CAP_NET_ADMIN, or have somebody who may run \
      "ip tuntap add dev \(device) mode tap vnet_hdr user $USER" once
      """
    case .noPacketSocket(let interface):
      "\(interface) cannot be opened without the right to: run as root, or grant CAP_NET_RAW"
    case .oneQueue(let device):
      "\(device) was made for one queue: make it with \"ip tuntap add dev \(device) mode tap vnet_hdr multi_queue\""
    case .notTap(let device):
      "\(device) is no TAP device: take one that \"ip tuntap\" lists as tap, or a name that no interface has"
    case .noInterface(let name): "there is no network interface \(name): \"ip link\" lists those that there are"
    case .noTap: "this kernel has no TAP devices: /dev/net/tun is missing (load the module tun)"
    case .noTapWithHeaders(let descriptor):
      "descriptor \(descriptor) is no TAP device opened with IFF_TAP, IFF_NO_PI and IFF_VNET_HDR"
    case .taken(let what): "\(what) is taken: end the program or remove the file that has it, or take another"
    case .system(let what, let error): "\(what): \(error)"
    case .disconnected(let what): "\(what): the other side has gone"
    case .illegalLength(let what, let byteCount): "\(what): the other side announced a frame of \(byteCount) bytes"
    case .illegalName(let name): "\"\(name)\" is no name for a network device: 1 to 15 bytes without / and spaces"
    case .illegalVLAN(let number): "\(number) is no VLAN: they are 1 to 4094"
    }
  }
}
