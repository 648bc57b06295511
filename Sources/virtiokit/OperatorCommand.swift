import LinuxIO
import Options
import VirtioBlk

/// One line of what an operator wants of a running balloon.
enum OperatorCommand: Equatable {
  /// The memory that the guest is to have.
  case balloon(ByteCount)
  /// The memory that the guest is to give up.
  case inflate(ByteCount)
  case info(asJSON: Bool)
  case statistics
  /// Writes the device's state and its rings into a file.
  case saveState(String)
  case help
  case quit

  static let helpText = """
    balloon SIZE           the guest is to have SIZE of memory, as in QEMU: balloon 512M
    inflate SIZE           the balloon is to hold SIZE: inflate 128M; inflate 0 gives all back
    info balloon [--json]  target, actual size, host memory, statistics
    statistics             ask the guest for new statistics
    save-state FILE        write the device and its rings for virtiokit state; a relative path is this program's
    help                   this text
    quit                   end the program

    """

  init(_ line: String) throws(CommandError) {
    let words = line.split(whereSeparator: \.isWhitespace).map(String.init)
    switch words {
    case ["help"]: self = .help
    case ["quit"]: self = .quit
    case ["statistics"]: self = .statistics
    case ["info", "balloon"]: self = .info(asJSON: false)
    case ["info", "balloon", "--json"]: self = .info(asJSON: true)
    case _ where words.count == 2 && words[0] == "save-state": self = .saveState(words[1])
    case _ where words.count == 2 && words[0] == "balloon": self = .balloon(try CommandError.size(words[1]))
    case _ where words.count == 2 && words[0] == "inflate": self = .inflate(try CommandError.size(words[1]))
    default: throw CommandError.misread(words, helpText: Self.helpText)
    }
  }
}

/// Why an operator's command was not carried out.
enum CommandError: Error, Equatable {
  case unknown(String)
  /// The command is there, with other arguments: its line of the help text.
  case wrongArguments(String)
  /// The command is there, and has nothing to say in JSON.
  case noJSON(String)
  case noSize(String)
  case wouldShrink(ByteCount, from: ByteCount)
  /// An image that cannot be served as it was asked for.
  case image(String, StoreError)
  case looksLikeQcow2(String)
  /// An overlay that was made for another image, or for none.
  case overlayOfAnother(String, standsOn: String?, image: String)
  case noCard(Int, of: Int)
  case noHost(String)
  case noBalloonSize(ByteCount)
  case balloonAboveMemory(ByteCount, memory: ByteCount)
}

extension CommandError {
  /// What to say of words that are no command of this help text.
  static func misread(_ words: [String], helpText: String) -> CommandError {
    let lines = helpText.split(separator: "\n")
    let plainWords = words.last == "--json" ? words.dropLast() : words[...]
    guard let start = lines.firstIndex(where: { $0.hasPrefix("\(plainWords.first ?? "\n") ") }) else {
      return .unknown(plainWords.joined(separator: " "))
    }
    if plainWords.count < words.count, !lines[start].contains("--json") {
      return .noJSON(plainWords.joined(separator: " "))
    }
    // What a line has no room for is indented on the next; an answer is one line.
    let rest = lines[(start + 1)...].prefix { $0.hasPrefix(" ") }.map { $0.drop { $0 == " " } }
    let usage = lines[start].split(separator: "  ", omittingEmptySubsequences: true)
      .map { $0.drop { $0 == " " } }.joined(separator: ": ")
    return .wrongArguments(([usage[...]] + rest).joined(separator: " "))
  }

  static func size(_ word: String) throws(CommandError) -> ByteCount {
    guard let size = ByteCount(optionText: word) else { throw .noSize(word) }
    return size
  }
}

extension CommandError: CustomStringConvertible {
  var description: String {
    switch self {
    case .unknown(let line): "there is no command \"\(line)\"; try help"
    case .noJSON(let line): "\(line) has no JSON to give: leave --json out"
    case .wrongArguments(let usage): "it goes like this: \(usage)"
    case .noSize(let word): "\"\(word)\" is not \(ByteCount.expectation)"
    case .wouldShrink(let size, let present):
      "the disk has \(present): to cut its end off, say resize \(size.description.filter { $0 != " " }) shrink"
    case .noCard(let number, let count):
      "there is no card \(number): they are 0 to \(count - 1)"
    case .image(_, .system(let error)) where !error.subject.isEmpty: "\(error)"
    case .image(let path, let error): "\(path): \(error)"
    case .overlayOfAnother(let path, let backing, let image):
      "\(path) is there already and stands on \(backing ?? "no image"), not on \(image): give --overlay another path"
    case .looksLikeQcow2(let path):
      "\(path) looks like a qcow2 image: say --format qcow2, or --format raw to serve it as it is"
    case .noHost(let name): "\(name) has no address: no machine of this name is known here"
    case .noBalloonSize(let size): "a balloon of \(size) cannot be: it holds whole 4 KiB pages, fewer than 2^32"
    case .balloonAboveMemory(let size, let memory):
      "a balloon of \(size) would leave nothing of the guest's \(memory)"
    }
  }
}

/// What comes of a command: lines of text, then a last line that says whether it was done.
enum Reply {
  case success(String)
  case failure(String)

  static let done = "ok"
  static let failed = "error: "

  var text: String {
    switch self {
    case .success(let text): "\(text)\(Self.done)\n"
    case .failure(let reason): "\(Self.failed)\(reason)\n"
    }
  }
}
