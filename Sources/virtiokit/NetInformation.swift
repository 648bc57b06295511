import VirtioNet

/// What there is to say of a network card, for people and for programs.
struct NetInformation {
  let isConnected: Bool
  let address: EthernetAddress
  let isLinkUp: Bool
  let counters: NetCounters
  let names: GuestNames
  let failure: PortError?

  init(isConnected: Bool, _ card: borrowing NetDevice) {
    self.isConnected = isConnected
    address = card.address
    isLinkUp = card.isLinkUp
    counters = card.counters
    names = card.names
    failure = card.failure
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
      "\(counters.receivedPackets)", "\(counters.transmittedPackets)", "\(counters.drops.values.reduce(0, +))",
    ]
  }

  private var texts: [String] { names.ipv4Texts + names.ipv6Texts }

  private var dropLines: [String] {
    let drops = counters.drops.sorted { $0.key.rawValue < $1.key.rawValue }.map { "\($0.value) lost: \($0.key)" }
    return drops + (failure.map { ["\($0)"] } ?? [])
  }

  var json: JSON {
    let drops = counters.drops.sorted { $0.key.rawValue < $1.key.rawValue }
    return .object([
      ("connected", .bool(isConnected)), ("mac", .text("\(address)")),
      ("addresses", .array(texts.map { .text($0) })), ("link_up", .bool(isLinkUp)),
      ("received_packets", .number(counters.receivedPackets)), ("received_bytes", .number(counters.receivedBytes)),
      ("sent_packets", .number(counters.transmittedPackets)), ("sent_bytes", .number(counters.transmittedBytes)),
      ("commands", .number(counters.commands)), ("refused_commands", .number(counters.refusedCommands)),
      ("drops", .object(drops.map { ("\($0.key)", .number($0.value)) })),
      ("failure", failure.map { .text("\($0)") } ?? .null),
    ])
  }
}
