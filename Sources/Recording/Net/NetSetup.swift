import VirtioNet

/// What is written down of how a card was made.
struct NetSetup: TapeRecord {
  var options = NetOptions(address: .broadcast)
  var portCount: UInt16 = 1

  init() {}

  init(_ options: NetOptions, portCount: Int) {
    self.options = options
    self.portCount = UInt16(clamping: portCount)
  }

  mutating func code(with coder: inout some TapeCoder) throws(RecordingError) {
    var raw = options.address.rawValue
    try coder.number(&raw)
    guard let address = EthernetAddress(rawValue: raw) else { throw coder.malformed("\(raw) is no address of a card") }
    options.address = address
    var pairCount = UInt16(clamping: options.pairCount)
    try coder.number(&pairCount)
    options.pairCount = Int(pairCount)
    try coder.number(&options.queueSize)
    try coder.optionalNumber(&options.mtu)
    try coder.optionalNumber(&options.speed)
    try coder.flag(&options.offloads)
    try coder.flag(&options.mergeableBuffers)
    try coder.flag(&options.controlQueue)
    try coder.flag(&options.announcesMoves)
    try coder.flag(&options.hashing)
    try coder.number(&portCount)
    guard (1...128).contains(pairCount), options.queueSize.nonzeroBitCount == 1 else {
      throw coder.malformed("no card has \(pairCount) pairs of queues of \(options.queueSize)")
    }
    guard portCount <= 1 || portCount == pairCount else {
      throw coder.malformed("\(portCount) ports for \(pairCount) pairs of queues")
    }
  }
}

extension TapeCoder {
  fileprivate mutating func optionalNumber<Number: FixedWidthInteger & UnsignedInteger>(
    _ value: inout Number?
  ) throws(RecordingError) {
    var isThere = value != nil
    try flag(&isThere)
    var number = value ?? 0
    if isThere { try self.number(&number) }
    value = isThere ? number : nil
  }
}
