import Glibc
public import LinuxIO

/// One queue of a TAP device: packets go to and come from a network interface of this machine, with their headers.
public final class TapPort: PacketPort {
  public let name: String
  public let takenOffloads: Offloads
  public private(set) var counters = PortCounters()
  public private(set) var failure: PortError?

  private let device: TapDevice
  /// 5.1.6.4.1: whoever may not leave checksums to be completed does not tell of them either.
  private var unwantedFlags = NetHeader.Flags.dataValid

  /// Opens an interface, or makes one and brings it up. One that it has made goes with its last port.
  /// - Parameters:
  ///   - name: 1 to 15 bytes; the kernel puts a number in the place of `%d`.
  ///   - queueCount: how many ports it gets, each for a thread of its own.
  public static func open(name: String, queueCount: Int = 1) throws(PortError) -> [TapPort] {
    try openAll(name, queueCount) { name, _ throws(PortError) in
      TapPort(try openQueue(of: name, isAlone: queueCount <= 1))
    }
  }

  /// The same, with a thread for each port, on which it is opened and does its system calls.
  public static func openOnThreads(name: String, queueCount: Int) throws(PortError) -> [ThreadedPort] {
    try openAll(name, queueCount) { name, number throws(PortError) in
      try ThreadedPort(threadName: "net pair \(number)") { () throws(PortError) in
        TapPort(try openQueue(of: name, isAlone: queueCount <= 1))
      }
    }
  }

  /// Takes over a queue that somebody else has opened.
  /// - Parameter descriptor: of a device with `IFF_TAP`, `IFF_NO_PI` and `IFF_VNET_HDR`; it is closed on any error.
  public convenience init(descriptor: consuming FileDescriptor) throws(PortError) {
    let number = descriptor.rawValue
    do throws(LinuxError) {
      guard let device = try TapDevice.adopt(descriptor) else { throw LinuxError(call: "TUNGETIFF", number: 0) }
      self.init(device)
    } catch {
      // Nothing is open under that number, or something else is.
      throw [0, EBADF, ENOTTY, EINVAL].contains(error.number)
        ? .noTapWithHeaders(descriptor: number) : .system("TAP descriptor \(number)", error)
    }
  }

  private init(_ device: consuming TapDevice) {
    name = Self.namePrefix + device.name
    takenOffloads = Self.accepted(by: device)
    self.device = device
  }

  public var descriptor: Int32? { device.descriptor.rawValue }

  public func setGivenOffloads(_ offloads: Offloads) {
    unwantedFlags = offloads.contains(.checksum) ? [] : .dataValid
    // The first that the kernel knows; to leave nothing undone is known to all.
    _ = TapDevice.Offloads.choices(offloads).first { device.setOffloads($0) }
  }

  public func send(_ batch: inout PacketBatch) {
    while !batch.isEmpty, write(batch) { batch.removeFirst() }
  }

  /// - Returns: whether the first packet has been taken.
  private func write(_ batch: borrowing PacketBatch) -> Bool {
    guard failure == nil else { return drop(.portFailed) }
    do throws(LinuxError) {
      guard try device.descriptor.writeOnce(batch.bytes, at: batch.packet(0)) != nil else { return false }
      counters.sent &+= 1
      return true
    } catch {
      return drop(reason(of: error))
    }
  }

  private func drop(_ reason: DropReason) -> Bool {
    counters.drop(reason)
    return true
  }

  private func reason(of error: LinuxError) -> DropReason {
    switch error.number {
    case EINVAL: return .badHeader
    // The interface is down, and may come up again.
    case EIO: return .linkDown
    case ENOBUFS, ENOMEM: return .queueFull
    default:
      failure = .system(name, error)
      return .portFailed
    }
  }

  public func receive(into batch: inout PacketBatch) {
    while failure == nil, batch.hasRoom() {
      do throws(LinuxError) {
        guard let byteCount = try read(into: &batch) else { return }
        batch.bytes[batch.nextPacket] &= ~unwantedFlags.rawValue
        batch.accept(byteCount - NetHeader.byteCount, &counters)
      } catch {
        // A frame that found no room is lost; without the interface there are no more.
        guard error.number == EFAULT || error.number == ENOMEM else {
          failure = .system(name, error)
          return
        }
        counters.drop(error.number == EFAULT ? .tooLong : .queueFull)
      }
    }
  }

  private func read(into batch: inout PacketBatch) throws(LinuxError) -> Int? {
    let start = batch.nextPacket
    let byteCount = NetHeader.byteCount + PacketBatch.largestFrameByteCount
    return try device.descriptor.readOnce(into: &batch.bytes, at: start..<start + byteCount)
  }
}

extension TapPort {
  private static func openAll<Port: PacketPort>(
    _ name: String, _ queueCount: Int, _ open: (String, Int) throws(PortError) -> Port
  ) throws(PortError) -> [Port] {
    guard isLegal(name) else { throw .illegalName(name) }
    let isNew = !exists(name)
    let first = try open(name, 0)
    // The kernel may have chosen the name's number.
    let name = String(first.name.dropFirst(namePrefix.count))
    var ports = [first]
    while ports.count < queueCount { ports.append(try open(name, ports.count)) }
    if isNew { try bringUp(name) }
    return ports
  }

  private static var namePrefix: String { "tap:" }

  private static func isLegal(_ name: String) -> Bool {
    (1...NetworkInterface.largestNameByteCount).contains(name.utf8.count) && name != "." && name != ".."
      && !name.utf8.contains { $0 <= UInt8(ascii: " ") || $0 == UInt8(ascii: "/") || $0 == UInt8(ascii: ":") }
  }

  private static func exists(_ name: String) -> Bool {
    (try? NetworkInterface(named: name)) != nil
  }

  private static func openQueue(of name: String, isAlone: Bool) throws(PortError) -> TapDevice {
    do throws(LinuxError) {
      guard isAlone else { return try TapDevice.open(name: name, hasManyQueues: true) }
      do throws(LinuxError) {
        return try TapDevice.open(name: name)
      } catch {
        // Somebody has made the device for many queues; one of them will do.
        guard error.number == EINVAL else { throw error }
        return try TapDevice.open(name: name, hasManyQueues: true)
      }
    } catch {
      if error.number == EPERM || error.number == EACCES { throw .notPermitted(device: name) }
      if error.number == EINVAL, exists(name) { throw isAlone ? .notTap(device: name) : .oneQueue(device: name) }
      if error.number == EBUSY { throw .taken("tap:\(name)") }
      throw error.call == "open" ? .noTap : .system("tap:\(name)", error)
    }
  }

  private static func bringUp(_ name: String) throws(PortError) {
    do throws(LinuxError) {
      try NetworkInterface(named: name).setUp()
    } catch {
      // Whoever may make it but not bring it up leaves that to somebody else.
      guard error.number == EPERM else { throw .system(namePrefix + name, error) }
    }
  }

  /// What the kernel takes undone: everything, but for what it learned late.
  private static func accepted(by device: borrowing TapDevice) -> Offloads {
    defer { _ = device.setOffloads([]) }
    return device.setOffloads([.checksum, .udp4, .udp6]) ? .all : .all.subtracting([.udp4, .udp6])
  }
}

extension TapDevice.Offloads {
  /// What to ask for, best first: kernels know less the older they are, and some things only together.
  fileprivate static func choices(_ wanted: Offloads) -> [TapDevice.Offloads] {
    guard wanted.contains(.checksum) else { return [[]] }
    var best = TapDevice.Offloads(wanted)
    if best.isDisjoint(with: [.tcp4, .tcp6]) { best.remove(.congestion) }
    let datagrams: TapDevice.Offloads = [.udp4, .udp6]
    if !best.isSuperset(of: datagrams) { best.subtract(datagrams) }
    let older = best.subtracting(datagrams)
    return [best, older, older.subtracting(.udpFragments), .checksum, []]
  }

  private init(_ offloads: Offloads) {
    self = []
    let names: [(Offloads, TapDevice.Offloads)] = [
      (.checksum, .checksum), (.tcp4, .tcp4), (.tcp6, .tcp6), (.congestion, .congestion),
      (.udpFragments, .udpFragments), (.udp4, .udp4), (.udp6, .udp6),
    ]
    for (offload, name) in names where offloads.contains(offload) { insert(name) }
  }
}
