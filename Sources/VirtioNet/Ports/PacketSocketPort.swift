import Glibc
import LinuxIO

/// Frames of a network interface that is there already, as they pass it: a card beside the machine's own.
///
/// The machine itself is not reached through its own interface: what it sends there goes out, and does not come here.
public final class PacketSocketPort: PacketPort {
  public let name: String
  public let takenOffloads: Offloads
  public private(set) var failure: PortError?

  private let interface: NetworkInterface
  private let socket: Socket
  private var sender = MessageSender(headerByteCount: PacketSocket.headerByteCount)
  private var receiver: MessageReceiver
  private var givenOffloads: Offloads = []
  private var counted = PortCounters()
  /// Packets with more left undone than may be, one at a time, on their way through `fallback`.
  private var undone = PacketBatch()
  private var fallback = OffloadFallback(.toDriver)

  /// Opens an interface, which then takes frames whoever they are for.
  public init(interface interfaceName: String) throws(PortError) {
    name = "packet:\(interfaceName)"
    do throws(LinuxError) {
      interface = try NetworkInterface(named: interfaceName)
      socket = try PacketSocket.open(on: interface)
      receiver = try MessageReceiver(headerByteCount: PacketSocket.headerByteCount, hasTags: true)
    } catch {
      switch error.number {
      case EPERM: throw .noPacketSocket(interface: interfaceName)
      case ENODEV: throw .noInterface(interfaceName)
      default: throw .system("packet:\(interfaceName)", error)
      }
    }
    // The kernel cannot be asked; it has learned to cut datagrams from headers in 6.2.
    takenOffloads = KernelVersion.current >= KernelVersion(6, 2) ? .all : .all.subtracting([.udp4, .udp6])
  }

  public var descriptor: Int32? { socket.descriptor.rawValue }

  /// The kernel cannot be asked for less than it likes to give: the rest is done here.
  public func setGivenOffloads(_ offloads: Offloads) {
    givenOffloads = offloads
  }

  public var counters: PortCounters {
    var counters = counted
    for (reason, count) in fallback.drops { counters.drop(reason, count) }
    return counters
  }

  public func send(_ batch: inout PacketBatch) {
    guard failure == nil else {
      counted.drop(.portFailed, UInt64(batch.count))
      return batch.removeAll()
    }
    _ = sender.send(&batch, on: socket, &counted) { self.refused($0) }
  }

  private func refused(_ error: LinuxError) -> DropReason {
    switch error.number {
    case EINVAL: return .badHeader
    case EMSGSIZE: return .tooLong
    case ENOBUFS, ENOMEM: return .queueFull
    case ENETDOWN where interface.exists: return .linkDown
    default:
      failure = .system(name, error)
      return .portFailed
    }
  }

  public func receive(into batch: inout PacketBatch) {
    while failure == nil, batch.hasRoom() {
      do throws(LinuxError) {
        guard passOn(to: &batch) else { return }
        guard let index = try receiver.takeNext(from: socket) else { return }
        take(index, &batch)
      } catch {
        switch error.number {
        // A frame with something undone for which there is no header.
        case EINVAL: counted.drop(.badHeader)
        case ENETDOWN where interface.exists: continue
        default: failure = .system(name, error)
        }
      }
    }
  }

  /// Adds what has been done in `undone`.
  /// - Returns: whether it was all.
  private func passOn(to batch: inout PacketBatch) -> Bool {
    while true {
      while !undone.isEmpty {
        guard batch.hasRoom(), batch.append(packet: 0, of: undone) else { return false }
        undone.removeFirst()
        counted.received &+= 1
      }
      guard fallback.hasMore else { return true }
      fallback.adapt(&undone, from: .all, to: givenOffloads)
    }
  }

  private func take(_ index: Int, _ batch: inout PacketBatch) {
    let (start, headerByteCount) = (batch.nextPacket, PacketSocket.headerByteCount)
    var byteCount = receiver.messages.byteCount(index) - headerByteCount
    let tag = receiver.messages.vlanTag(index)
    let room = PacketBatch.largestFrameByteCount - (tag == nil ? 0 : 4)
    guard !receiver.messages.isTruncated(index), byteCount <= room else { return counted.drop(.tooLong) }
    guard byteCount >= PacketBatch.smallestFrameByteCount else { return counted.drop(.tooShort) }
    NetHeader().store(in: &batch.bytes, at: start)
    receiver.messages.copy(0..<headerByteCount, of: index, to: &batch.bytes, at: start)
    guard var header = NetHeader(batch.bytes, at: start) else { return counted.drop(.badHeader) }
    if let tag {
      copyFrame(index, byteCount, putting: tag, &batch)
      header.moveFrame(by: 4)
      byteCount += 4
    } else {
      let frame = headerByteCount..<headerByteCount + byteCount
      receiver.messages.copy(frame, of: index, to: &batch.bytes, at: start + NetHeader.byteCount)
    }
    give(header, byteCount, &batch)
  }

  /// Adds the frame that lies at `nextPacket`, or first has done in it what may not be left undone.
  private func give(_ found: NetHeader, _ byteCount: Int, _ batch: inout PacketBatch) {
    let start = batch.nextPacket
    var header = found
    // 5.1.6.4.1: without checksums to be completed there is nothing to be told of them.
    if !givenOffloads.contains(.checksum) { header.flags.remove(.dataValid) }
    if givenOffloads.isSuperset(of: header.neededOffloads) {
      header.store(in: &batch.bytes, at: start)
      batch.accept(byteCount, &counted)
    } else {
      let frame = start + NetHeader.byteCount
      undone.append(batch.bytes[frame..<frame + byteCount], header)
      fallback.adapt(&undone, from: .all, to: givenOffloads)
    }
  }

  /// The tag's place is behind the two addresses.
  private func copyFrame(_ index: Int, _ byteCount: Int, putting tag: UInt32, _ batch: inout PacketBatch) {
    let from = PacketSocket.headerByteCount
    let to = batch.nextPacket + NetHeader.byteCount
    receiver.messages.copy(from..<from + 12, of: index, to: &batch.bytes, at: to)
    batch.bytes.setBigEndian32(tag, at: to + 12)
    receiver.messages.copy(from + 12..<from + byteCount, of: index, to: &batch.bytes, at: to + 16)
  }
}

extension NetHeader {
  /// What whoever gets the frame must be able to do.
  fileprivate var neededOffloads: Offloads {
    var needed: Offloads = flags.contains(.needsChecksum) ? .checksum : []
    switch segmentation {
    case .none: break
    case .tcp4: needed.insert(.tcp4)
    case .tcp6: needed.insert(.tcp6)
    case .udpFragments: needed.insert(.udpFragments)
    // Which of the two, the header does not say.
    case .udpDatagrams: needed.formUnion([.udp4, .udp6])
    }
    if hasCongestionBit { needed.insert(.congestion) }
    return needed
  }

  /// Corrects the offsets after bytes have been put in front of what they refer to.
  fileprivate mutating func moveFrame(by byteCount: UInt16) {
    if headersByteCount > 0 { headersByteCount &+= byteCount }
    if flags.contains(.needsChecksum) { checksumStart &+= byteCount }
  }
}
