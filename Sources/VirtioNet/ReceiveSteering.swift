import DeviceState

/// Which receive queue gets which flow (5.1.6.5.6, 5.1.6.5.7).
struct ReceiveSteering: StateRecord {
  /// Whether the driver has chosen queues itself, by `VIRTIO_NET_CTRL_MQ_RSS_CONFIG`.
  var isChosenByDriver = false
  /// The kinds of hash that the driver has enabled, as `HashTypes`.
  var types: UInt32 = 0
  /// The key of the hash, as the driver gave it.
  var key: [UInt8] = []
  /// The pair for each hash, modulo the number of entries, a power of two.
  var table: [UInt16] = []
  /// The pair for packets without a hash.
  var unclassified: UInt16 = 0

  init() {}

  mutating func code(with coder: inout some StateCoder) throws(StateError) {
    try coder.field("isChosenByDriver", &isChosenByDriver)
    try coder.field("types", &types)
    try coder.field("key", &key)
    try coder.field("table", &table)
    try coder.field("unclassified", &unclassified)
  }

  /// The pair for a packet.
  /// - Parameter hash: nil when it has none.
  func pair(for hash: UInt32?) -> Int {
    guard let hash, !table.isEmpty else { return Int(unclassified) }
    return Int(table[Int(hash) & (table.count - 1)])
  }

  /// How many pairs of queues its choice takes.
  var pairCount: Int { Int((table + [unclassified]).max() ?? 0) + 1 }

  /// Whether every field could have come from a driver of a card with so many pairs of queues.
  func isPossible(pairCount: Int) -> Bool {
    key.count <= NetConfig.largestKeyByteCount && HashTypes(rawValue: types).isSubset(of: .all)
      && table.count & (table.count - 1) == 0 && table.count <= Int(NetConfig.largestTableCount)
      && self.pairCount <= pairCount
  }
}
