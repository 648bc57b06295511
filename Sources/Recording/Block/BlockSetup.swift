import VirtioBlk

/// What is written down of how a disk was made.
struct BlockSetup: TapeRecord {
  var options = BlockOptions()
  var byteCount: UInt64 = 512
  var isReadOnly = false
  var limits = BlockLimits()

  init() {}

  init(_ options: BlockOptions, _ store: any BlockStore) {
    self.options = options
    byteCount = store.byteCount
    isReadOnly = store.isReadOnly
    limits = store.limits
  }

  mutating func code(with coder: inout some TapeCoder) throws(RecordingError) {
    try coder.number(&byteCount)
    try coder.flag(&isReadOnly)
    try coder.size(&limits.blockByteCount)
    try coder.size(&limits.physicalBlockByteCount)
    try coder.size(&limits.discardByteCount)
    try coder.flag(&limits.canDiscard)
    try coder.text(&options.identifier)
    try coder.number(&options.queueCount)
    try coder.number(&options.queueSize)
    try coder.number(&options.segmentMax)
    var sizeMax = options.sizeMax ?? 0
    try coder.number(&sizeMax)
    options.sizeMax = sizeMax == 0 ? nil : sizeMax
    try coder.flag(&options.flush)
    try coder.flag(&options.configurableWriteback)
    try coder.flag(&options.discard)
    try coder.flag(&options.writeZeroes)
    guard byteCount > 0, byteCount % 512 == 0 else { throw coder.malformed("no disk has \(byteCount) bytes") }
    guard (1...256).contains(options.queueCount), options.queueSize.nonzeroBitCount == 1 else {
      throw coder.malformed("no disk has \(options.queueCount) queues of \(options.queueSize)")
    }
  }
}

extension TapeCoder {
  /// A power of two from 512 to 2³⁰.
  fileprivate mutating func size(_ value: inout Int) throws(RecordingError) {
    var number = UInt32(clamping: value)
    try self.number(&number)
    guard number.nonzeroBitCount == 1, (9...30).contains(number.trailingZeroBitCount) else {
      throw malformed("no disk has units of \(number) bytes")
    }
    value = Int(number)
  }
}
