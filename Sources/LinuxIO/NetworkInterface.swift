import CLinux
import Glibc

/// A network interface of this machine, as the kernel knows it by name.
public struct NetworkInterface: Equatable, Sendable {
  /// The longest name, in bytes.
  public static let largestNameByteCount = 15

  public let name: String
  /// The number by which system calls know it.
  public let index: Int32

  /// Finds an interface; `ENODEV` is thrown when there is none of this name.
  public init(named name: String) throws(LinuxError) {
    let index = unsafe if_nametoindex(name)
    guard index != 0 else { throw LinuxError(call: "if_nametoindex", subject: name) }
    self.name = name
    self.index = Int32(truncatingIfNeeded: index)
  }

  /// Whether it is still there.
  public var exists: Bool {
    unsafe if_nametoindex(name) == UInt32(bitPattern: index)
  }

  /// Brings it up, so that it carries packets, or down.
  public func setUp(_ isUp: Bool = true) throws(LinuxError) {
    let socket = try Socket(family: AF_INET, type: SOCK_DGRAM.rawValue)
    let number = socket.descriptor.rawValue
    var request = unsafe ifreq(interface: name)
    _ = try retrying("ioctl(SIOCGIFFLAGS)", on: name) { unsafe ioctl(number, UInt(SIOCGIFFLAGS), &request) }
    let flags = unsafe request.ifr_ifru.ifru_flags
    unsafe request.ifr_ifru.ifru_flags = isUp ? flags | Int16(IFF_UP) : flags & ~Int16(IFF_UP)
    _ = try retrying("ioctl(SIOCSIFFLAGS)", on: name) { unsafe ioctl(number, UInt(SIOCSIFFLAGS), &request) }
  }
}

extension ifreq {
  /// A request about the interface of a name, of which 15 bytes count.
  init(interface name: String) {
    unsafe self.init()
    unsafe withUnsafeMutableBytes(of: &ifr_ifrn.ifrn_name) { (buffer) in
      unsafe buffer.copyBytes(from: name.utf8.prefix(NetworkInterface.largestNameByteCount))
    }
  }

  var interfaceName: String {
    unsafe withUnsafeBytes(of: ifr_ifrn.ifrn_name) { unsafe String(decoding: $0.prefix { $0 != 0 }, as: UTF8.self) }
  }
}
