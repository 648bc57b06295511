import CLinux
import Glibc

/// A network interface whose other end is this program: one queue of it, which carries Ethernet frames behind headers
/// of twelve bytes. It does not block. An interface that is not persistent goes with its last queue.
public struct TapDevice: ~Copyable, Sendable {
  /// The open descriptor, to watch in an event loop. Every call reads or writes one frame.
  public let descriptor: FileDescriptor
  /// The interface's name.
  public let name: String

  /// What the kernel may leave undone in the frames that are read (`TUN_F_…`).
  public struct Offloads: OptionSet, Sendable {
    public let rawValue: Int32
    public init(rawValue: Int32) { self.rawValue = rawValue }

    public static let checksum = Offloads(rawValue: Int32(CLINUX_TUN_F_CSUM))
    public static let tcp4 = Offloads(rawValue: Int32(CLINUX_TUN_F_TSO4))
    public static let tcp6 = Offloads(rawValue: Int32(CLINUX_TUN_F_TSO6))
    public static let congestion = Offloads(rawValue: Int32(CLINUX_TUN_F_TSO_ECN))
    public static let udpFragments = Offloads(rawValue: Int32(CLINUX_TUN_F_UFO))
    public static let udp4 = Offloads(rawValue: Int32(CLINUX_TUN_F_USO4))
    public static let udp6 = Offloads(rawValue: Int32(CLINUX_TUN_F_USO6))
  }

  private static var path: String { "/dev/net/tun" }
  private static var wantedFlags: Int32 { Int32(CLINUX_IFF_TAP | CLINUX_IFF_NO_PI | CLINUX_IFF_VNET_HDR) }

  /// Opens a queue of the interface `name`, which is made if there is none.
  ///
  /// The error's call is `open` when the machine has no such devices or does not let this program have any, and
  /// `ioctl(TUNSETIFF)` when it does not let it have this one.
  /// - Parameters:
  ///   - name: at most 15 bytes; the kernel puts a number in the place of `%d`.
  ///   - hasManyQueues: whether the interface may have more queues than one; all of them must say the same.
  public static func open(name: String, hasManyQueues: Bool = false) throws(LinuxError) -> TapDevice {
    let descriptor = try FileDescriptor.open(path, for: .readingAndWriting)
    try descriptor.setBlocking(false)
    var request = unsafe ifreq(interface: name)
    let flags = wantedFlags | (hasManyQueues ? Int32(CLINUX_IFF_MULTI_QUEUE) : 0)
    unsafe request.ifr_ifru.ifru_flags = Int16(truncatingIfNeeded: flags)
    let number = descriptor.rawValue
    _ = try retrying("ioctl(TUNSETIFF)", on: name) { unsafe ioctl(number, UInt(CLINUX_TUNSETIFF), &request) }
    return try TapDevice(ready: descriptor, name: unsafe request.interfaceName)
  }

  /// Takes over a queue that somebody else has opened; it is made not to block. Every error leaves it closed.
  /// - Returns: nil for one that carries no Ethernet frames behind headers (`IFF_TAP`, `IFF_NO_PI`, `IFF_VNET_HDR`).
  public static func adopt(_ descriptor: consuming FileDescriptor) throws(LinuxError) -> TapDevice? {
    var request = unsafe ifreq()
    let number = descriptor.rawValue
    _ = try retrying("ioctl(TUNGETIFF)") { unsafe ioctl(number, UInt(CLINUX_TUNGETIFF), &request) }
    guard unsafe Int32(request.ifr_ifru.ifru_flags) & wantedFlags == wantedFlags else { return nil }
    try descriptor.setBlocking(false)
    return try TapDevice(ready: descriptor, name: unsafe request.interfaceName)
  }

  private init(ready descriptor: consuming FileDescriptor, name: String) throws(LinuxError) {
    var byteCount: Int32 = 12
    let number = descriptor.rawValue
    _ = try retrying("ioctl(TUNSETVNETHDRSZ)", on: name) {
      unsafe ioctl(number, UInt(CLINUX_TUNSETVNETHDRSZ), &byteCount)
    }
    self.descriptor = descriptor
    self.name = name
  }

  /// Lets the kernel leave this undone, for all queues of the interface.
  /// - Returns: false, with nothing changed, when it knows less, or not this combination.
  public func setOffloads(_ offloads: Offloads) -> Bool {
    ioctl(descriptor.rawValue, UInt(CLINUX_TUNSETOFFLOAD), offloads.rawValue) == 0
  }
}
