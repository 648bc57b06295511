import VirtioNet

/// What there is to say of a network card, for people and for programs.
struct NetInformation {
  let isConnected: Bool
  let address: EthernetAddress
  let isLinkUp: Bool
  let counters: NetCounters
  /// What its ports have dropped, by reason.
  let portDrops: [DropReason: UInt64]
  let names: GuestNames
  /// Why ports carry nothing any more, each reason once.
  let failures: [String]

  init(isConnected: Bool, _ card: borrowing NetDevice) {
    self.isConnected = isConnected
    address = card.address
    isLinkUp = card.isLinkUp
    counters = card.counters
    portDrops = card.ports.reduce(into: [:]) { $0.merge($1.counters.drops) { $0 &+ $1 } }
    names = card.names
    failures = card.ports.reduce(into: []) { failures, port in
      guard let failure = port.failure.map({ "\($0)" }), !failures.contains(failure) else { return }
      failures.append(failure)
    }
  }

  private static let headings = ["card", "guest", "MAC", "address", "link", "received", "sent", "lost"]

  /// One row for each card.
  static func table(_ cards: [NetInformation]) -> String {
    let rows = [headings] + cards.enumerated().map { number, card in ["\(number)"] + card.cells }
    let widths = headings.indices.map { column in rows.map { $0[column].count }.max() ?? 0 }
    let lines = rows.map { row in
      let last = row.indices.last
      return row.indices.map { column in
        column == last
          ? row[column] : row[column] + String(repeating: " ", count: widths[column] - row[column].count + 2)
      }.joined()
    }
    let drops = cards.enumerated().flatMap { number, card in card.dropLines.map { "card \(number): \($0)" } }
    return (lines + drops).map { $0 + "\n" }.joined()
  }

  private var cells: [String] {
    [
      isConnected ? "connected" : "none", "\(address)", texts.first ?? "-", isLinkUp ? "up" : "down",
      "\(counters.receivedPackets)", "\(counters.transmittedPackets)",
      "\(counters.drops.merging(portDrops) { $0 &+ $1 }.values.reduce(0, &+))",
    ]
  }

  private var texts: [String] { names.ipv4Texts + names.ipv6Texts }

  private var dropLines: [String] {
    counters.drops.lines("lost") + portDrops.lines("lost in the port") + failures
  }

  var json: JSON {
    .object([
      ("connected", .bool(isConnected)), ("mac", .text("\(address)")),
      ("addresses", .array(texts.map { .text($0) })), ("link_up", .bool(isLinkUp)),
      ("received_packets", .number(counters.receivedPackets)), ("received_bytes", .number(counters.receivedBytes)),
      ("sent_packets", .number(counters.transmittedPackets)), ("sent_bytes", .number(counters.transmittedBytes)),
      ("commands", .number(counters.commands)), ("refused_commands", .number(counters.refusedCommands)),
      ("drops", counters.drops.json), ("port_drops", portDrops.json),
      ("failures", .array(failures.map { .text($0) })),
    ])
  }
}

/// What there is to say of what a switch is plugged into.
struct UplinkInformation {
  let name: String
  let drops: [DropReason: UInt64]
  let failure: PortError?

  /// What it has lost, and why it carries nothing any more, a line for each.
  var text: String {
    let lines = drops.lines("lost") + (failure.map { ["\($0)"] } ?? [])
    return lines.map { "uplink: \($0)\n" }.joined()
  }

  var json: JSON {
    .object([
      ("port", .text(name)), ("drops", drops.json), ("failure", failure.map { .text("\($0)") } ?? .null),
    ])
  }
}

extension [DropReason: UInt64] {
  private var inOrder: [(key: DropReason, value: UInt64)] { sorted { $0.key.rawValue < $1.key.rawValue } }

  /// One line for each reason.
  func lines(_ what: String) -> [String] {
    inOrder.map { "\($0.value) \(what): \($0.key)" }
  }

  fileprivate var json: JSON {
    .object(inOrder.map { ("\($0.key)", .number($0.value)) })
  }
}
