import Options
import VirtioNet

/// One line of what an operator wants of running network cards.
enum NetOperatorCommand: Equatable {
  case link(card: Int, isUp: Bool)
  case announce(card: Int)
  /// Packets and bytes a second, each way; 0 for all.
  case rate(packets: UInt64, bytes: ByteCount)
  case fault(PacketFaults)
  case table
  /// Writes the card's state and its rings into a file.
  case saveState(card: Int, String)
  case info(asJSON: Bool)
  case help
  case quit

  static let helpText = """
    link CARD up|down     plug the cable of a card in or out; cards are counted from 0: link 0 down
    announce CARD         tell the network where the guest is, as after a move: announce 0
    rate PACKETS BYTES    let each card send and get so many a second: rate 1000 1M; 0 is without limit
    fault WHAT CHANCE     let it happen to packets, each way; WHAT is nothing, loss, duplication, corruption, reordering or
                          delay, CHANCE from 0 to 1: fault loss 0.01
    table                 what the switch has learned
    save-state CARD FILE  write a card and its rings for virtiokit state; a relative path is this program's
    info net [--json]     addresses, packets, what was dropped and why
    help                  this text
    quit                  end the program

    """

  init(_ line: String) throws(CommandError) {
    let words = line.split(whereSeparator: \.isWhitespace).map(String.init)
    switch words {
    case ["help"]: self = .help
    case ["quit"]: self = .quit
    case ["info", "net"]: self = .info(asJSON: false)
    case ["info", "net", "--json"]: self = .info(asJSON: true)
    case _ where words.count == 3 && words[0] == "link" && ["up", "down"].contains(words[2]):
      self = .link(card: try Self.card(words), isUp: words[2] == "up")
    case _ where words.count == 2 && words[0] == "announce": self = .announce(card: try Self.card(words))
    case ["table"]: self = .table
    case _ where words.count == 3 && words[0] == "save-state": self = .saveState(card: try Self.card(words), words[2])
    case _ where words.count == 3 && words[0] == "rate":
      guard let packets = UInt64(words[1]) else { throw CommandError.misread(words, helpText: Self.helpText) }
      self = .rate(packets: packets, bytes: try CommandError.size(words[2]))
    case ["fault", "nothing"]: self = .fault(PacketFaults())
    case _ where words.count == 3 && words[0] == "fault": self = .fault(try Self.faults(words))
    default: throw CommandError.misread(words, helpText: Self.helpText)
    }
  }

  private static func faults(_ words: [String]) throws(CommandError) -> PacketFaults {
    var share = PacketFaults.Share()
    guard let chance = Double(words[2]), (0...1).contains(chance) else {
      throw CommandError.misread(words, helpText: helpText)
    }
    switch words[1] {
    case "loss": share.loss = chance
    case "duplication": share.duplication = chance
    case "corruption": share.corruption = chance
    case "reordering": share.reordering = chance
    case "delay": share.delay = chance
    default: throw CommandError.misread(words, helpText: helpText)
    }
    var faults = PacketFaults()
    faults.outgoing = share
    faults.incoming = share
    return faults
  }

  private static func card(_ words: [String]) throws(CommandError) -> Int {
    guard let number = Int(words[1]), number >= 0 else { throw CommandError.misread(words, helpText: helpText) }
    return number
  }
}
