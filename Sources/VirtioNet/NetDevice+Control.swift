import GuestRAM
import VirtioCore
import Virtqueue

/// What the driver commands (5.1.6.5).
extension NetDevice {
  private static var ok: UInt8 { 0 }
  private static var error: UInt8 { 1 }

  /// How many commands are obeyed in one call at most: the longest take as long as many packets.
  private static var commandsOfTurn: Int { 64 }

  mutating func obey(_ queues: inout QueueSet, _ index: Int) throws(VirtqueueError) {
    for _ in 0..<Self.commandsOfTurn {
      guard var chain = try queues[index].next() else { return }
      let isDone = try obey(&chain, queues)
      if isDone { counters.commands &+= 1 } else { counters.refusedCommands &+= 1 }
      // Without room for the answer the driver has asked for none.
      _ = try chain.write(isDone ? Self.ok : Self.error)
      queues[index].complete(chain)
    }
    queues.serveLater(index)
  }

  /// Carries a command out, wholly or not at all.
  private mutating func obey(
    _ chain: inout DescriptorChain, _ queues: borrowing QueueSet
  ) throws(VirtqueueError) -> Bool {
    guard let kind = try chain.read(UInt8.self), let number = try chain.read(UInt8.self) else { return false }
    return switch kind {
    case 0: try setMode(number, &chain)
    case 1: try setAddresses(number, &chain)
    case 2: try setVLAN(number, &chain)
    // This command has no data at all.
    case 3: try acknowledgeAnnouncement(number, &chain)
    case 4: try setSteering(number, &chain)
    case 5: try setGuestOffloads(number, &chain)
    case 6: try setCoalescing(number, &chain, queues)
    default: false
    }
  }

  func isOver(_ chain: inout DescriptorChain) throws(VirtqueueError) -> Bool {
    try !chain.hasReadableBytes()
  }

  /// `VIRTIO_NET_CTRL_RX`
  private mutating func setMode(_ number: UInt8, _ chain: inout DescriptorChain) throws(VirtqueueError) -> Bool {
    let needed: Feature = number < 2 ? .netControlReceive : .netControlReceiveExtra
    guard features.contains(needed), number < 6, let isOn = try chain.read(UInt8.self), isOn < 2, try isOver(&chain)
    else { return false }
    let mode = ReceiveFilter.Modes(rawValue: 1 << number)
    if isOn == 1 { filter.modes.insert(mode) } else { filter.modes.remove(mode) }
    return true
  }

  /// `VIRTIO_NET_CTRL_MAC`
  private mutating func setAddresses(_ number: UInt8, _ chain: inout DescriptorChain) throws(VirtqueueError) -> Bool {
    switch number {
    case 0:
      guard features.contains(.netControlReceive), let unicast = try readTable(&chain),
        let multicast = try readTable(&chain), try isOver(&chain)
      else { return false }
      filter.setTables(unicast: unicast, multicast: multicast)
    case 1:
      guard features.contains(.netControlMACAddress), let address = try readAddress(&chain), address.isUnicast,
        try isOver(&chain)
      else { return false }
      fields.address = address
    default: return false
    }
    return true
  }

  /// A count and so many addresses; nil when they are not all there.
  private func readTable(_ chain: inout DescriptorChain) throws(VirtqueueError) -> FilterTable? {
    guard let count = try chain.read(UInt32.self), count <= FilterTable.mostAnnounced else { return nil }
    var table = FilterTable()
    var piece = [UInt8](repeating: 0, count: 6 * ReceiveFilter.mostAddresses)
    var left = 6 * Int(count)
    while left > 0 {
      let byteCount = min(left, piece.count)
      guard try chain.read(into: &piece, part: 0..<byteCount) == byteCount else { return nil }
      table.add(piece, 0..<byteCount)
      left -= byteCount
    }
    return table
  }

  private func readAddress(_ chain: inout DescriptorChain) throws(VirtqueueError) -> EthernetAddress? {
    var bytes: [UInt8] = [0, 0, 0, 0, 0, 0]
    guard try chain.read(into: &bytes, part: 0..<6) == 6 else { return nil }
    return EthernetAddress(bytes, at: 0)
  }

  /// `VIRTIO_NET_CTRL_VLAN`
  private mutating func setVLAN(_ number: UInt8, _ chain: inout DescriptorChain) throws(VirtqueueError) -> Bool {
    guard features.contains(.netControlVLAN), number < 2, let vlan = try chain.read(UInt16.self), vlan < 4096,
      try isOver(&chain)
    else { return false }
    filter.setVLAN(vlan, isWanted: number == 0)
    return true
  }

  /// `VIRTIO_NET_CTRL_ANNOUNCE_ACK`
  private mutating func acknowledgeAnnouncement(
    _ number: UInt8, _ chain: inout DescriptorChain
  ) throws(VirtqueueError) -> Bool {
    guard features.contains(.netGuestAnnounce), number == 0, try isOver(&chain) else { return false }
    fields.asksToAnnounce = false
    return true
  }

  /// `VIRTIO_NET_CTRL_GUEST_OFFLOADS_SET`
  private mutating func setGuestOffloads(
    _ number: UInt8, _ chain: inout DescriptorChain
  ) throws(VirtqueueError) -> Bool {
    guard number == 0, features.contains(.netControlGuestOffloads), let bits = try chain.read(UInt64.self),
      try isOver(&chain)
    else { return false }
    let asked = Features(low: bits)
    guard asked.isSubset(of: features.intersection(Offloads.takingFeatures)) else { return false }
    setTakenOffloads(Offloads(takenByDriverWith: asked))
    return true
  }
}

/// `VIRTIO_NET_CTRL_MQ`
extension NetDevice {
  private mutating func setSteering(_ number: UInt8, _ chain: inout DescriptorChain) throws(VirtqueueError) -> Bool {
    switch number {
    case 0: try setPairs(&chain)
    case 1: try setQueueChoice(&chain)
    case 2: try setHash(&chain)
    default: false
    }
  }

  private mutating func setPairs(_ chain: inout DescriptorChain) throws(VirtqueueError) -> Bool {
    guard features.contains(.netMultiqueue), let count = try chain.read(UInt16.self),
      (1...lanes.count).contains(Int(count)), try isOver(&chain)
    else { return false }
    settings.pairCount = Int(count)
    steering.isChosenByDriver = false
    return true
  }

  /// `struct virtio_net_rss_config`
  private mutating func setQueueChoice(_ chain: inout DescriptorChain) throws(VirtqueueError) -> Bool {
    guard features.contains(.netRSS), let types = try chain.read(UInt32.self),
      let mask = try chain.read(UInt16.self), mask < NetConfig.largestTableCount, (mask &+ 1) & mask == 0,
      let unclassified = try chain.read(UInt16.self)
    else { return false }
    var choice = ReceiveSteering()
    choice.isChosenByDriver = true
    choice.types = types
    choice.unclassified = unclassified
    for _ in 0...mask {
      guard let pair = try chain.read(UInt16.self) else { return false }
      choice.table.append(pair)
    }
    guard let transmitCount = try chain.read(UInt16.self), (1...lanes.count).contains(Int(transmitCount)),
      let key = try readKey(&chain)
    else { return false }
    choice.key = key
    guard accept(choice) else { return false }
    settings.pairCount = max(Int(transmitCount), choice.pairCount)
    return true
  }

  /// `struct virtio_net_hash_config`
  private mutating func setHash(_ chain: inout DescriptorChain) throws(VirtqueueError) -> Bool {
    guard features.contains(.netHashReport), let types = try chain.read(UInt32.self),
      try chain.read(UInt64.self) != nil, let key = try readKey(&chain)
    else { return false }
    // Of the commands that choose a mode the last one decides (5.1.6.5.5), and this one goes with automatic steering.
    var choice = ReceiveSteering()
    choice.types = types
    choice.key = key
    return accept(choice)
  }

  private func readKey(_ chain: inout DescriptorChain) throws(VirtqueueError) -> [UInt8]? {
    guard let count = try chain.read(UInt8.self), count <= NetConfig.largestKeyByteCount else { return nil }
    var key = [UInt8](repeating: 0, count: Int(count))
    guard try chain.read(into: &key, part: 0..<key.count) == key.count, try isOver(&chain) else { return nil }
    return key
  }

  private mutating func accept(_ choice: ReceiveSteering) -> Bool {
    guard choice.isPossible(pairCount: lanes.count) else { return false }
    setSteering(choice)
    return true
  }
}
