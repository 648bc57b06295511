import LinuxIO
import Options
import Recording
import VhostUser
import VirtioCore
import VirtioNet

/// `virtiokit net`
struct NetCommand: Command {
  static let name = "net"
  static let summary = "Serves network cards to vhost-user front-ends."
  static let discussion = """
    Each --socket-path is a card of its own; all of them are plugged into the same port, which for several cards is a \
    switch.

    A port is tap:NAME, a TAP device, which is made if it is not there; switch, for cards and an --uplink to talk to each \
    other; stream:ADDRESS, listen:ADDRESS or dgram:LOCAL,REMOTE, what QEMU's "-netdev stream" and "-netdev dgram" speak, \
    where an address is a path or HOST:PORT; packet:INTERFACE, a card beside the machine's own on an interface; fd:NUMBER, \
    an inherited TAP device; loopback, which returns every packet; sink and source, to measure.

    While it runs it takes commands, one a line, on the control socket and on standard input; "help" lists \
    them. It serves one front-end after another on each socket, and ends on SIGTERM or "quit".
    """
  static let examples = [
    Example("--socket-path /run/net.sock --port tap:vm0", "A card on a TAP device, which is made if it is not there."),
    Example("--socket-path a.sock --socket-path b.sock --port switch", "Two cards on a switch: two guests can talk."),
    Example("--socket-path a.sock --socket-path b.sock --port switch --uplink tap:vm0", "The same, and the host."),
    Example("--socket-path a.sock --port stream:/run/qemu.sock", "A card on QEMU's \"-netdev stream\"."),
    Example("--socket-path a.sock --port tap:vm0 --capture vm0.pcapng", "Write what passes to a file."),
  ]

  var socketPaths: [String] = []
  var descriptor: Int?
  var port = PortAddress.learningSwitch
  var uplink: PortAddress?
  var addresses: [EthernetAddress] = []
  var pairCount = 1
  var queueSize = 1024
  var pairThreads = PairThreads.auto
  var mtu: Int?
  var speed: Int?
  var noOffloads = false
  var noMergeable = false
  var noControl = false
  var capture: String?
  var packetsPerSecond = 0
  var bandwidth: ByteCount?
  var vlans: [Int] = []
  var pollLimit = Duration.zero
  var control: String?
  var record: String?
  var printCapabilities = false

  mutating func declare(in options: inout OptionTable) {
    options.repeated("socket-path", &socketPaths, "where the front-end of a card connects", placeholder: "PATH")
    options.value("fd", &descriptor, "the inherited socket of a front-end that is connected already")
    options.value("port", &port, "what the cards are plugged into")
    options.value("uplink", &uplink, "plug this into the switch too")
    options.repeated("mac", &addresses, "the address of each card; some address if not said")
    options.repeated("vlan", &vlans, "the VLAN of each card's place on the switch; all VLANs if not said")
    options.value("queue-pairs", &pairCount, "how many pairs of queues each guest may use")
    options.value(
      "pair-threads", &pairThreads,
      "whether each pair's packets to and from a TAP device are carried by a thread of their own; auto: with several pairs, "
        + "where there are three processors or more")
    options.value("queue-size", &queueSize, "how many buffers a queue may have at most")
    options.value("mtu", &mtu, "the largest IP packet that the guest may use, in bytes")
    options.value("speed", &speed, "the speed that the guest is told, in Mbit/s")
    options.flag("no-offloads", &noOffloads, "let nobody leave checksums and segments to the other side")
    options.flag("no-mergeable", &noMergeable, "let a received packet take one buffer only")
    options.flag("no-control", &noControl, "offer no control queue")
    options.value("capture", &capture, "write what passes the port to this pcapng file", placeholder: "PATH")
    options.value("packet-rate", &packetsPerSecond, "how many packets a second each card may send, and get; 0 for all")
    options.value("bandwidth", &bandwidth, "how many bytes a second each card may send, and get; 0 for all")
    options.value(
      "poll", &pollLimit,
      "how long to look for packets before sleeping, where it pays: up to 1ms, for a guest and a back-end that have "
        + "processors of their own; 0s never looks")
    options.value("control", &control, "where commands are taken", placeholder: "PATH")
    options.value(
      "record", &record, "write all that a guest and the port do to this file, for replay; slow", placeholder: "PATH")
    options.flag("print-capabilities", &printCapabilities, "print what this back-end can do, as JSON, and end")
  }

  /// How many cards there are.
  var cardCount: Int { max(1, socketPaths.count) }

  func validate() throws(OptionError) {
    guard !printCapabilities else { return }
    try SocketOptions(socketPaths: socketPaths, descriptor: descriptor, control: control).check()
    try checkPorts()
    if let record, cardCount > 1 {
      throw .rejected(option: "--record", value: record, reason: "it goes with one card")
    }
    try checkAddresses()
    try check("--queue-pairs", pairCount, in: 1...128, "a card has 1 to 128 pairs of queues")
    if noControl, pairCount > 1 {
      throw .rejected(
        option: "--queue-pairs", value: "\(pairCount)",
        reason: "guests ask for pairs in commands, which --no-control forbids")
    }
    guard (4...32768).contains(queueSize), queueSize & (queueSize - 1) == 0 else {
      throw .rejected(option: "--queue-size", value: "\(queueSize)", reason: "it is no power of two from 4 to 32768")
    }
    if let mtu { try check("--mtu", mtu, in: 1280...65535, "an MTU is 1280 to 65535 bytes") }
    if let speed { try check("--speed", speed, in: 0...0x7FFF_FFFF, "a speed is 0 to 2147483647 Mbit/s") }
    try check("--packet-rate", packetsPerSecond, in: 0...Int.max, "no card does less than nothing")
    guard pollLimit >= .zero, pollLimit <= .milliseconds(1) else {
      throw .rejected(
        option: "--poll", value: pollLimit.optionText, reason: "longer than 1ms would hold everything else up")
    }
  }

  private func checkPorts() throws(OptionError) {
    guard cardCount == 1 || port == .learningSwitch else {
      throw .rejected(option: "--port", value: port.optionText, reason: "several cards need --port switch")
    }
    if let uplink {
      guard port == .learningSwitch else {
        throw .rejected(option: "--uplink", value: uplink.optionText, reason: "it goes with --port switch alone")
      }
      guard uplink != .learningSwitch else {
        throw .rejected(option: "--uplink", value: uplink.optionText, reason: "a switch cannot be plugged into itself")
      }
    }
    guard vlans.isEmpty || vlans.count == cardCount && port == .learningSwitch else {
      throw .rejected(
        option: "--vlan", value: "\(vlans[0])", reason: "it goes with --port switch, once for each card or never")
    }
    for vlan in vlans { try check("--vlan", vlan, in: 1...4094, "a VLAN has a number from 1 to 4094") }
    if pairThreads == .always {
      guard case .tap = port else {
        throw .rejected(
          option: "--pair-threads", value: pairThreads.optionText, reason: "it goes with --port tap:NAME alone")
      }
    }
    if capture?.isEmpty == true { throw .missingValue(option: "--capture", placeholder: "PATH") }
  }

  private func checkAddresses() throws(OptionError) {
    for (number, address) in addresses.enumerated() {
      let reason: String? =
        if addresses.count != cardCount {
          "cards: \(cardCount), addresses: \(addresses.count); each card has one, or none is given"
        } else if !address.isUnicast {
          "it is no card's own, which has an even first byte and is not all zero"
        } else {
          addresses[..<number].contains(address) ? "two cards cannot share an address" : nil
        }
      if let reason { throw .rejected(option: "--mac", value: address.description, reason: reason) }
    }
  }

  private func check(_ option: String, _ value: Int, in range: ClosedRange<Int>, _ reason: String) throws(OptionError) {
    if !range.contains(value) { throw .rejected(option: option, value: "\(value)", reason: reason) }
  }

  func run() throws {
    if printCapabilities { return Terminal.write("{\"type\": \"net\", \"features\": []}\n") }
    // Before anything else, so that a signal never finds sockets to leave behind.
    let signals = try SignalDescriptor()
    let loop = try EventLoop()
    guard let record else {
      let service = try NetService(
        self, loop: loop, offering: .standard, desk: .plain, standardInput: FileDescriptor(owning: 0)
      ) { number, ports in
        NetDevice(deviceOptions(number), ports: ports) { Terminal.complain("card \(number): \($0)") }
      }
      return try serve(service, signals, loop)
    }
    let sink = try RecordingFile(record).sink
    // What is noted for a successor would have to be recorded too.
    let service = try NetService(
      self, loop: loop, offering: .standard.subtracting(.inflightRegion), desk: .recorded,
      standardInput: FileDescriptor(owning: 0)
    ) { number, ports in
      RecordedDevice(deviceOptions(number), ports: ports, to: sink) { Terminal.complain("card \(number): \($0)") }
    }
    try serve(service, signals, loop)
  }

  private func serve<Device: VirtioDevice & ~Copyable>(
    _ service: NetService<Device>, _ given: consuming SignalDescriptor, _ loop: EventLoop
  ) throws {
    let signals = given
    // Held by nobody but its maker, the service takes its sockets with it.
    try loop.watch(signals.descriptor.rawValue) { [unowned service] in
      _ = signals.next()
      service.end()
    }
    try loop.run()
    service.finish()
    try service.checkConnection()
  }

  var packetRates: PacketRates {
    PacketRates(eachWay: UInt64(packetsPerSecond), bytes: bandwidth?.bytes ?? 0)
  }

  /// What a card offers its driver.
  func deviceOptions(_ card: Int) -> NetOptions {
    var generator = SystemRandomNumberGenerator()
    var options = NetOptions(
      address: card < addresses.count ? addresses[card] : EthernetAddress.random(using: &generator))
    options.pairCount = pairCount
    options.queueSize = UInt16(clamping: queueSize)
    options.mtu = mtu.map { UInt16(clamping: $0) }
    options.speed = speed.map { UInt32(clamping: $0) }
    options.offloads = !noOffloads
    options.mergeableBuffers = !noMergeable
    options.controlQueue = !noControl
    return options
  }
}
