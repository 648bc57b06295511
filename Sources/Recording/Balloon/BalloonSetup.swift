import Balloon

/// What is written down of how a balloon was made.
struct BalloonSetup: TapeRecord {
  var options = BalloonOptions()

  init() {}

  init(_ options: BalloonOptions) {
    self.options = options
  }

  mutating func code(with coder: inout some TapeCoder) throws(RecordingError) {
    try coder.flag(&options.mustTellHost)
    try coder.flag(&options.deflateOnOutOfMemory)
    try coder.flag(&options.statistics)
    try coder.flag(&options.freePageHint)
    try coder.flag(&options.pagePoison)
    try coder.flag(&options.pageReporting)
    var isFixed = options.numbering == .fixed
    try coder.flag(&isFixed)
    options.numbering = isFixed ? .fixed : .consecutive
    try coder.number(&options.leastQueueSize)
  }
}
