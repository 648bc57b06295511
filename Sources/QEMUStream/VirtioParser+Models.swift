/// What each kind of device keeps for itself.
extension VirtioParser {
  static let ctrlGuestOffloads: UInt64 = 1 << 2
  /// `VIRTIO_F_RING_PACKED`
  static let packed: UInt64 = 1 << 34

  // MARK: - Block

  /// The requests that wait for somebody to mend an error, each after a byte 1 (`hw/block/virtio-blk.c`).
  mutating func parseBlock() throws(QEMUStreamError) {
    var count = 0
    while true {
      let place = cursor.place("requests")
      switch try cursor.integer(UInt8.self, "requests[\(count)].follows") {
      case 0: return
      case 1: try parseRequest("requests[\(count)]")
      default: throw .invalid(place, reason: "neither 0 nor 1")
      }
      count += 1
    }
  }

  /// `VirtQueueElement`, as a 64-bit host has it in memory: head, counts, addresses and lengths of up to 1024 buffers each way.
  private mutating func parseRequest(_ name: String) throws(QEMUStreamError) {
    let place = cursor.place(name)
    let queue = queueCount > 1 ? try cursor.integer(UInt32.self, "\(name).queue") : 0
    guard queue < queueCount else { throw .invalid(place, reason: "a request of a queue \(queue)") }
    let end = cursor.position + 49_168
    try cursor.need(49_168, name)
    let head = try cursor.integer(UInt32.self, "\(name).head", isLittleEndian: true)
    guard head < 32_768 else { throw .invalid(place, reason: "a request of the head \(head)") }
    let out = try cursor.integer(UInt32.self, "\(name).outCount", isLittleEndian: true)
    let `in` = try cursor.integer(UInt32.self, "\(name).inCount", isLittleEndian: true)
    guard out <= 1024, `in` <= 1024 else { throw .invalid(place, reason: "a request of \(out) and \(`in`) buffers") }
    let start = cursor.position + 4
    for (direction, count, base) in [("in", `in`, 0), ("out", out, 8192)] {
      cursor.position = start + base
      for index in 0..<count {
        try cursor.integer(UInt64.self, "\(name).\(direction)[\(index)].address", isLittleEndian: true)
      }
      // Each a pointer, which means nothing here, and a length.
      cursor.position = start + 16_384 + 2 * base
      for index in 0..<count {
        cursor.skip(8)
        try cursor.integer(UInt64.self, "\(name).\(direction)[\(index)].length", isLittleEndian: true)
      }
    }
    cursor.position = end
  }

  // MARK: - Balloon

  mutating func parseBalloon() throws(QEMUStreamError) {
    try cursor.integer(UInt32.self, "targetPages")
    try cursor.integer(UInt32.self, "actualPages")
  }

  // MARK: - Network

  mutating func parseNet() throws(QEMUStreamError) {
    try cursor.bytes(6, "mac")
    try cursor.integer(UInt32.self, "transmitWaiting[0]")
    try cursor.integer(UInt32.self, "mergeableBuffers")
    try cursor.integer(UInt16.self, "linkStatus")
    try cursor.integer(UInt8.self, "promiscuous")
    try cursor.integer(UInt8.self, "allMulticast")
    let place = cursor.place("macTable")
    let count = try cursor.integer(UInt32.self, "macCount")
    guard count <= 64 else { throw .beyondLimit(place, value: UInt64(count), limit: 64) }
    try cursor.bytes(6 * Int(count), "macTable")
    try cursor.bytes(512, "vlans")
    try cursor.integer(UInt32.self, "hasHeader")
    for name in [
      "multicastOverflow", "unicastOverflow", "allUnicast", "noMulticast", "noUnicast", "noBroadcast", "hasUFO",
    ] {
      try cursor.integer(UInt8.self, name)
    }
    if hasPairs { try parsePairs() }
    if features & Self.ctrlGuestOffloads != 0 { try cursor.integer(UInt64.self, "offloads") }
  }

  /// Whether the number of pairs follows, as in a device that could have several.
  ///
  /// Nothing before tells it. Without them a subsection or the end comes at once, or after the offloads; and the byte there is
  /// another otherwise, since a number of pairs is at most 1024 and the upper bytes of the offloads are no such value.
  private var hasPairs: Bool {
    let distance = features & Self.ctrlGuestOffloads != 0 ? 8 : 0
    return !cursor.continues(after: distance, with: StreamPart.subsection)
  }

  private mutating func parsePairs() throws(QEMUStreamError) {
    let most = try cursor.integer(UInt16.self, "mostPairs")
    let place = cursor.place("pairs")
    let pairs = try cursor.integer(UInt16.self, "pairs")
    guard pairs >= 1, pairs <= most else { throw .invalid(place, reason: "\(pairs) pairs of queues, of \(most)") }
    for index in 1..<Int(pairs) { try cursor.integer(UInt32.self, "transmitWaiting[\(index)]") }
  }

  // MARK: - Their subsections

  /// - Returns: false for a subsection that is not known.
  mutating func parseModelPart(_ name: String) throws(QEMUStreamError) -> Bool {
    switch (model, name) {
    case (.balloon, "virtio-balloon-device/free-page-report"):
      try cursor.integer(UInt32.self, "hintCommand")
      try cursor.integer(UInt32.self, "hintStatus")
    case (.balloon, "virtio-balloon-device/page-poison"): try cursor.integer(UInt32.self, "poisonValue")
    case (.net, "virtio-net-device/rss"): try parseSteering()
    default: return false
    }
    return true
  }

  private mutating func parseSteering() throws(QEMUStreamError) {
    try cursor.integer(UInt8.self, "rss.enabled")
    try cursor.integer(UInt8.self, "rss.redirect")
    try cursor.integer(UInt8.self, "rss.populateHash")
    try cursor.integer(UInt32.self, "rss.types")
    let count = try cursor.integer(UInt16.self, "rss.tableCount")
    try cursor.integer(UInt16.self, "rss.unclassified")
    try cursor.bytes(40, "rss.key")
    try cursor.bytes(2 * Int(count), "rss.table")
  }
}
