import Options

/// One line of what an operator wants of a running disk.
enum DiskCommand: Equatable {
  /// The size that the disk is to have.
  case resize(ByteCount)
  case info(asJSON: Bool)
  case help
  case quit

  static let helpText = """
    resize SIZE         give the disk and its image another size; the guest is told: resize 20G
    info disk [--json]  size, what the guest has done, what went wrong
    help                this text
    quit                end the program

    """

  init(_ line: String) throws(CommandError) {
    let words = line.split(whereSeparator: \.isWhitespace).map(String.init)
    switch words {
    case ["help"]: self = .help
    case ["quit"]: self = .quit
    case ["info", "disk"]: self = .info(asJSON: false)
    case ["info", "disk", "--json"]: self = .info(asJSON: true)
    case _ where words.count == 2 && words[0] == "resize": self = .resize(try CommandError.size(words[1]))
    default: throw CommandError.misread(words, helpText: Self.helpText)
    }
  }
}
