import DeviceState
import Options
import VirtioCore

/// What numbers of a saved state mean, for people.
enum StateMeaning {
  static func remark(_ section: StateDocument.Section, _ path: String, _ value: StateTree) -> String? {
    remark(section: section.name, path, value)
  }

  /// - Parameter section: a section's name or label.
  static func remark(section: String, _ path: String, _ value: StateTree) -> String? {
    let name = section.split(separator: "/").first.map(String.init) ?? section
    guard let field = path.split(separator: ".").last?.split(separator: "[").first.map(String.init) else { return nil }
    switch value {
    case .unsigned(let number) where name.hasSuffix("-host"): return host(String(name.dropLast(5)), field, number)
    case .unsigned(let number): return model(name, field, number)
    case .optional(.unsigned(let number)?): return model(name, field, number)
    default: return nil
    }
  }

  private static func model(_ section: String, _ field: String, _ number: UInt64) -> String? {
    switch (section, field) {
    case ("balloon", "targetPages"), ("balloon", "actualPages"), ("balloon", "inflatedPages"),
      ("balloon", "deflatedPages"):
      "\(ByteCount(bytes: number &* 4096))"
    case ("balloon", "numbering"): number == 0 ? "consecutive" : "fixed"
    case ("balloon", "hintPhase"): ["idle", "requested", "active", "ended"].element(number)
    case ("balloon", "hintCommand"): number == 0 ? "STOP" : number == 1 ? "DONE" : "round \(hex(number))"
    case ("balloon", "tag"): statistics.element(number)
    case ("balloon", "pollInterval"), ("balloon", "lastReportAge"), ("balloon", "age"):
      "\(Duration.nanoseconds(Int64(clamping: number)))"
    case ("block", "capacitySectors"): "\(ByteCount(bytes: number &* 512))"
    case ("net", "address"), ("net", "unicast"), ("net", "multicast"): address(number)
    case ("guest-memory", "address"), ("guest-memory", "start"): hex(number)
    case (_, _) where field.hasSuffix("Bytes") || field == "byteCount": "\(ByteCount(bytes: number))"
    default: nil
    }
  }

  private static func host(_ model: String, _ field: String, _ number: UInt64) -> String? {
    switch field {
    case "device": DeviceID(rawValue: UInt32(clamping: number)).map { "\($0)" } ?? "unknown"
    case "status": status(number)
    case "featuresLow", "proposedFeaturesLow": features(number, of: model)
    case "featuresHigh", "proposedFeaturesHigh": number == 0 ? nil : "\(Features(high: number))"
    case "descriptorTable", "availableRing", "usedRing": hex(number)
    default: nil
    }
  }

  static func hex(_ number: UInt64) -> String { "0x" + String(number, radix: 16) }

  private static func address(_ number: UInt64) -> String {
    (0..<6).map { place in
      let byte = UInt8(truncatingIfNeeded: number >> UInt64(40 - 8 * place))
      return (byte < 16 ? "0" : "") + String(byte, radix: 16)
    }.joined(separator: ":")
  }

  private static func status(_ number: UInt64) -> String {
    let steps: [(bit: UInt64, name: String)] = [
      (1, "ACKNOWLEDGE"), (2, "DRIVER"), (8, "FEATURES_OK"), (4, "DRIVER_OK"), (64, "DEVICE_NEEDS_RESET"),
      (128, "FAILED"),
    ]
    let names = steps.filter { number & $0.bit != 0 }.map(\.name)
    return names.isEmpty ? "reset, or not shown by the transport" : names.joined(separator: ", ")
  }

  /// The names of feature bits 0 to 63, as the specification has them without their prefix.
  static func features(_ bits: UInt64, of model: String) -> String {
    let numbers = (0..<64).filter { bits >> UInt64($0) & 1 != 0 }
    let names = numbers.map { (bit: Int) -> String in common[bit] ?? own[model]?[bit] ?? "bit \(bit)" }
    return names.isEmpty ? "none" : names.joined(separator: ", ")
  }

  private static let common: [Int: String] = [
    24: "NOTIFY_ON_EMPTY", 27: "ANY_LAYOUT", 28: "INDIRECT_DESC", 29: "EVENT_IDX", 30: "PROTOCOL_FEATURES",
    32: "VERSION_1", 33: "ACCESS_PLATFORM", 34: "RING_PACKED", 35: "IN_ORDER", 36: "ORDER_PLATFORM", 37: "SR_IOV",
    38: "NOTIFICATION_DATA", 39: "NOTIF_CONFIG_DATA", 40: "RING_RESET", 41: "ADMIN_VQ",
  ]

  private static let own: [String: [Int: String]] = [
    "balloon": [
      0: "MUST_TELL_HOST", 1: "STATS_VQ", 2: "DEFLATE_ON_OOM", 3: "FREE_PAGE_HINT", 4: "PAGE_POISON",
      5: "PAGE_REPORTING",
    ],
    "block": [
      1: "SIZE_MAX", 2: "SEG_MAX", 4: "GEOMETRY", 5: "RO", 6: "BLK_SIZE", 9: "FLUSH", 10: "TOPOLOGY", 11: "CONFIG_WCE",
      12: "MQ", 13: "DISCARD", 14: "WRITE_ZEROES", 15: "LIFETIME", 16: "SECURE_ERASE", 17: "ZONED",
    ],
    "net": [
      0: "CSUM", 1: "GUEST_CSUM", 2: "CTRL_GUEST_OFFLOADS", 3: "MTU", 5: "MAC", 7: "GUEST_TSO4", 8: "GUEST_TSO6",
      9: "GUEST_ECN", 10: "GUEST_UFO", 11: "HOST_TSO4", 12: "HOST_TSO6", 13: "HOST_ECN", 14: "HOST_UFO",
      15: "MRG_RXBUF", 16: "STATUS", 17: "CTRL_VQ", 18: "CTRL_RX", 19: "CTRL_VLAN", 20: "CTRL_RX_EXTRA",
      21: "GUEST_ANNOUNCE", 22: "MQ", 23: "CTRL_MAC_ADDR", 52: "VQ_NOTF_COAL", 53: "NOTF_COAL", 54: "GUEST_USO4",
      55: "GUEST_USO6", 56: "HOST_USO", 57: "HASH_REPORT", 59: "GUEST_HDRLEN", 60: "RSS", 61: "RSC_EXT",
      62: "STANDBY", 63: "SPEED_DUPLEX",
    ],
  ]

  private static let statistics = [
    "SWAP_IN", "SWAP_OUT", "MAJFLT", "MINFLT", "MEMFREE", "MEMTOT", "AVAIL", "CACHES", "HTLB_PGALLOC", "HTLB_PGFAIL",
    "OOM_KILL", "ALLOC_STALL", "ASYNC_SCAN", "DIRECT_SCAN", "ASYNC_RECLAIM", "DIRECT_RECLAIM",
  ]
}

extension [String] {
  fileprivate func element(_ index: UInt64) -> String? { index < UInt64(count) ? self[Int(index)] : nil }
}
