import Balloon
import DeviceState
import VirtioBlk
import VirtioCore
import VirtioNet

/// The models' own state, from QEMU's.
extension VirtioSection {
  /// The sections of our snapshot that the device becomes: its host's, and its model's.
  func sections(_ host: HostImport, _ options: ImportOptions) throws(QEMUStreamError) -> [SnapshotSection] {
    switch model {
    case .block, .vhostUserBlock:
      try pair(host, BlockState.self, .block, of: try blockState(options).tree())
    case .balloon: try pair(host, BalloonState.self, .balloon, of: try balloonState().tree())
    case .net: try pair(host, NetState.self, .network, of: try netState())
    case .entropy: []
    }
  }

  private func pair<S: SavedState>(
    _ host: HostImport, _: S.Type, _ id: DeviceID, of tree: StateTree
  ) throws(QEMUStreamError) -> [SnapshotSection] {
    do throws(StateError) {
      let payload = try tree.payload()
      return [
        try host.section(S.section, id),
        try SnapshotSection(name: S.section, instance: path, version: S.version, payload: payload),
      ]
    } catch {
      throw .state(error)
    }
  }

  // MARK: - Block

  private func blockState(_ options: ImportOptions) throws(QEMUStreamError) -> BlockState {
    var state = BlockState()
    guard let capacity = options.capacities[path] ?? config?.littleEndian64(at: 0) else {
      throw invalid("its driver has never asked for its capacity, which nothing else tells")
    }
    state.capacitySectors = capacity
    state.writeback = writeback
    return state
  }

  /// Whether what is written may stay in a cache, as the driver knows it (5.2.5.2).
  var writeback: Bool {
    guard has(.blockConfigWriteback), let config, config.count > 32 else { return has(.blockFlush) }
    return config[32] != 0
  }

  // MARK: - Balloon

  private func balloonState() throws(QEMUStreamError) -> BalloonState {
    var state = BalloonState()
    state.targetPages = number32("targetPages")
    state.actualPages = number32("actualPages")
    state.poisonValue = number32("poisonValue")
    switch number32("hintStatus") {
    case 0: state.hintCommand = 0
    case 3: state.hintCommand = 1
    default: throw invalid("its driver is telling of free pages, for a migration that is over")
    }
    state.lastHintRound = number32("hintCommand")
    return state
  }

  private func number32(_ name: String) -> UInt32 { UInt32(truncatingIfNeeded: number(name) ?? 0) }

  // MARK: - Network

  private func netState() throws(QEMUStreamError) -> StateTree {
    if number("rss.populateHash") == 1 { throw invalid("its driver wants hashes of packets") }
    var state = NetState()
    if let address = EthernetAddress(bytes("mac") ?? []) { state.address = address }
    let link = number("linkStatus") ?? 1
    state.isLinkWanted = link & 1 != 0
    state.asksToAnnounce = link & 2 != 0 && has(.netGuestAnnounce)
    state.pairCount = UInt16(truncatingIfNeeded: number("pairs") ?? 1)
    state.takenOffloads = offloads.rawValue
    var tree = try state.tree()
    tree = tree.replacing("filter", with: filter(tree))
    if number("rss.enabled") == 1 { tree = tree.replacing("steering", with: try steering(tree)) }
    return tree
  }

  /// What the driver takes undone: what it has asked for, or else all that it has agreed to.
  var offloads: Offloads {
    let taken = number("offloads") ?? features
    let table: [(Feature, Offloads)] = [
      (.netGuestChecksum, .checksum), (.netGuestTSO4, .tcp4), (.netGuestTSO6, .tcp6), (.netGuestECN, .congestion),
      (.netGuestUFO, .udpFragments), (.netGuestUSO4, .udp4), (.netGuestUSO6, .udp6),
    ]
    let offloads = table.filter { has($0.0) && taken >> UInt64($0.0.rawValue) & 1 != 0 }
      .reduce(into: Offloads()) { $0.formUnion($1.1) }
    return offloads.contains(.checksum) ? offloads : []
  }

  private static let modes = ["promiscuous", "allMulticast", "allUnicast", "noMulticast", "noUnicast", "noBroadcast"]

  private func filter(_ tree: StateTree) -> StateTree {
    let modes = Self.modes.enumerated().reduce(UInt64(0)) { $0 | (number($1.element) == 0 ? 0 : 1 << $1.offset) }
    let table = bytes("macTable") ?? []
    let addresses = stride(from: 0, to: table.count - table.count % 6, by: 6).map { EthernetAddress(table, at: $0) }
    let vlans = bytes("vlans") ?? []
    let words = stride(from: 0, to: 8 * (vlans.count / 8), by: 8).map { vlans.littleEndian64(at: $0) ?? 0 }
    func numbers(_ addresses: [EthernetAddress]) -> StateTree { .array(addresses.map { .unsigned($0.rawValue) }) }
    return (tree.value(at: "filter") ?? .record([]))
      .replacing("modes", with: .unsigned(modes))
      .replacing("unicast", with: numbers(addresses.filter { !$0.isMulticast }))
      .replacing("multicast", with: numbers(addresses.filter(\.isMulticast)))
      .replacing("hasTooManyUnicast", with: .bool(number("unicastOverflow") == 1))
      .replacing("hasTooManyMulticast", with: .bool(number("multicastOverflow") == 1))
      .replacing("vlans", with: .array(has(.netControlVLAN) ? words.map { .unsigned($0) } : []))
  }

  private func steering(_ tree: StateTree) throws(QEMUStreamError) -> StateTree {
    guard number("rss.redirect") == 1 else { throw invalid("its driver wants hashes of packets") }
    let table = bytes("rss.table") ?? []
    let entries = stride(from: 0, to: table.count - 1, by: 2).map { UInt64(table[$0]) << 8 | UInt64(table[$0 + 1]) }
    return (tree.value(at: "steering") ?? .record([]))
      .replacing("isChosenByDriver", with: .bool(true))
      .replacing("types", with: .unsigned(number("rss.types") ?? 0))
      .replacing("key", with: .bytes(bytes("rss.key") ?? []))
      .replacing("table", with: .array(entries.map { .unsigned($0) }))
      .replacing("unclassified", with: .unsigned(number("rss.unclassified") ?? 0))
  }
}

extension SavedState {
  /// The state as names and values.
  func tree() throws(QEMUStreamError) -> StateTree {
    do throws(StateError) { return try StateTree(decoding: encoded()) } catch { throw .state(error) }
  }
}

extension [UInt8] {
  /// Eight bytes as a number; nil when they are not all there.
  func littleEndian64(at place: Int) -> UInt64? {
    guard place + 8 <= count else { return nil }
    return (0..<8).reduce(0) { $0 | UInt64(self[place + $1]) << UInt64(8 * $1) }
  }
}
