import Options

/// One line of what an operator wants of a running disk.
enum DiskCommand: Equatable {
  /// The size that the disk is to have.
  case resize(ByteCount, mayShrink: Bool)
  case throttle(DiskThrottle)
  /// Lets operations fail: the next so many, or all from now on.
  case fail(DiskFault, count: UInt64?)
  /// Writes the device's state and its rings into a file.
  case saveState(String)
  case info(asJSON: Bool)
  case help
  case quit

  static let helpText = """
    resize SIZE          make the disk and its image larger; the guest is told: resize 20G
    resize SIZE shrink   make it smaller, whatever its end holds
    throttle IOPS BYTES  let through so many requests and bytes a second: throttle 500 64M; 0 is without limit
    fail WHAT [COUNT]    fail the next COUNT requests, or all until "fail nothing"; WHAT is nothing, reads, writes, flushes
                         or everything
    save-state FILE      write the device and its rings for virtiokit state; a relative path is this program's
    info disk [--json]   size, what the guest has done, what went wrong
    help                 this text
    quit                 end the program

    """

  init(_ line: String) throws(CommandError) {
    let words = line.split(whereSeparator: \.isWhitespace).map(String.init)
    switch words {
    case ["help"]: self = .help
    case ["quit"]: self = .quit
    case ["info", "disk"]: self = .info(asJSON: false)
    case ["info", "disk", "--json"]: self = .info(asJSON: true)
    case _ where words.count == 2 && words[0] == "save-state": self = .saveState(words[1])
    case _ where words.count == 2 && words[0] == "resize":
      self = .resize(try CommandError.size(words[1]), mayShrink: false)
    case _ where words.count == 3 && words[0] == "resize" && words[2] == "shrink":
      self = .resize(try CommandError.size(words[1]), mayShrink: true)
    case _ where words.count == 3 && words[0] == "throttle":
      let bytes = try CommandError.size(words[2])
      guard let operations = UInt64(words[1]) else { throw CommandError.misread(words, helpText: Self.helpText) }
      self = .throttle(DiskThrottle(operationsPerSecond: operations, bytesPerSecond: bytes.bytes))
    case _ where (2...3).contains(words.count) && words[0] == "fail":
      guard let fault = DiskFault(rawValue: words[1]), words.count == 2 || UInt64(words[2]) != nil else {
        throw CommandError.misread(words, helpText: Self.helpText)
      }
      self = .fail(fault, count: words.count == 3 ? UInt64(words[2]) : nil)
    default: throw CommandError.misread(words, helpText: Self.helpText)
    }
  }
}
