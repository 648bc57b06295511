import DeviceState
import VirtioBlk
import VirtioCore
import VirtioNet

extension VirtioSection {
  /// The section of our snapshot in which a device of this kind is; nil where there is no model of ours.
  var stateSection: String? {
    switch model {
    case .block, .vhostUserBlock: BlockState.section
    case .net: NetState.section
    case .balloon: "balloon"
    case .entropy: nil
    }
  }
}

/// The network card, most of which is what its driver has told it (`hw/net/virtio-net.c`).
extension DevicePatcher {
  /// How many addresses QEMU keeps in all; of more it takes every packet.
  private static let mostAddresses = 64

  mutating func patchNet() throws(QEMUStreamError) {
    let state = saved.modelTree
    let template = try device.sections(HostImport.none(device), ImportOptions())
    try checkUncarried(state, template)
    let address = Self.bytes(of: state.number("address") ?? 0)
    try set("mac", address)
    try setConfig(address, at: 0)
    let link = (state.bool("isLinkWanted") ? 1 : 0) | (state.bool("asksToAnnounce") ? 2 : 0)
    try set("linkStatus", UInt64(link))
    try setConfig([UInt8(link), 0], at: 6)
    try patchFilter(state)
    if device.field("pairs") != nil { try patchPairs(state) }
  }

  /// Refuses what differs from the template and has no place, or not the same, in the section.
  private func checkUncarried(_ state: StateTree, _ template: [SnapshotSection]) throws(QEMUStreamError) {
    guard let old = template.first(where: { $0.name == NetState.section }) else { return }
    let before: StateTree
    do throws(StateError) { before = try StateTree(decoding: old.payload) } catch { throw .state(error) }
    for name in ["steering", "takenOffloads", "pairCount"] where state.value(at: name) != before.value(at: name) {
      throw refuse("its driver has changed \(name) since the template")
    }
    if state.value(at: "coalescing") != before.value(at: "coalescing") {
      throw refuse("its driver has set limits to notifications, which QEMU does not have")
    }
  }

  private mutating func patchFilter(_ state: StateTree) throws(QEMUStreamError) {
    let modes = state.number("filter.modes") ?? 0
    let names = ["promiscuous", "allMulticast", "allUnicast", "noMulticast", "noUnicast", "noBroadcast"]
    for (bit, name) in names.enumerated() { try set(name, modes >> UInt64(bit) & 1) }
    let table = (state.numbers("filter.unicast") + state.numbers("filter.multicast"))
    let isTooLong = table.count > Self.mostAddresses
    let kept = isTooLong ? [] : table
    try set("macCount", UInt64(kept.count))
    try set("macTable", kept.flatMap(Self.bytes))
    try set("unicastOverflow", state.bool("filter.hasTooManyUnicast") || isTooLong ? 1 : 0)
    try set("multicastOverflow", state.bool("filter.hasTooManyMulticast") || isTooLong ? 1 : 0)
    let vlans = state.numbers("filter.vlans")
    guard vlans.count == 64 else { return }
    try set("vlans", vlans.flatMap { word in (0..<8).map { UInt8(truncatingIfNeeded: word >> UInt64(8 * $0)) } })
  }

  private mutating func patchPairs(_ state: StateTree) throws(QEMUStreamError) {
    // Nothing waits to be sent: the queues are looked at as QEMU goes on.
    for index in 0..<Int(state.number("pairCount") ?? 1) { try set("transmitWaiting[\(index)]", 0) }
  }

  private static func bytes(of address: UInt64) -> [UInt8] {
    (0..<6).map { UInt8(truncatingIfNeeded: address >> UInt64(40 - 8 * $0)) }
  }
}
