// qemu-carry: takes a stream of a stopped QEMU over into our devices, lets them serve what waits in their rings, and writes a
// stream with which QEMU goes on.
//   qemu-carry show STREAM
//   qemu-carry read STREAM [--block NAME]             how long it takes, with the memory
//   qemu-carry carry STREAM OUTPUT [--block NAME] [IMAGE...]   the name of the guest's memory, if it has one of its own, and
//                                      an image for each disk, in the order of the stream
//   qemu-carry carry-quietly ...                the same, for drivers that look into their rings by themselves
import Balloon
import DeviceState
import Glibc
import GuestRAM
import LinuxIO
import QEMUStream
import VirtioBlk
import VirtioCore
import VirtioNet

/// Takes a device over, serves what its queues have, and gives its state back.
func carry<Device: VirtioDevice & ~Copyable>(
  _ device: consuming Device, _ instance: String, _ memory: GuestMemory, _ snapshot: inout Snapshot,
  _ result: inout Snapshot
) throws {
  var host = DeviceHost(device) { _ in }
  try host.attach(memory)
  try host.restore(from: &snapshot, instance: instance)
  var hasMore = host.resume()
  // A card's port has by now what was sent, and gives it back.
  hasMore = host.wake() || hasMore
  while hasMore {
    hasMore = false
    for index in 0..<host.queueCount where host.kick(index) { hasMore = true }
  }
  host.pause()
  if host.isBroken { throw QEMUStreamError.cannotCarry(device: instance, reason: "its driver broke it") }
  try host.save(into: &result, instance: instance)
}

func carryAll(_ path: String, _ output: String, _ more: [String], isQuiet: Bool) throws {
  let hasBlock = more.count > 1 && more[0] == "--block"
  let whole = try QEMUStream.readWithMemory(.open(path, for: .reading), block: hasBlock ? more[1] : nil)
  var snapshot = try whole.stream.importState(memory: whole.memory)
  var result = Snapshot()
  var images = more.dropFirst(hasBlock ? 2 : 0)
  for device in whole.stream.virtioDevices {
    switch device.model {
    case .block, .vhostUserBlock:
      var options = BlockOptions()
      if let queues = device.section.fields.first(where: { $0.name == "queueCount" }),
        case .unsigned(let count) = queues.value
      {
        options.queueCount = UInt16(count)
      }
      let store = try FileStore(path: images.popFirst() ?? "")
      try carry(BlockDevice(store, options), device.path, whole.memory, &snapshot, &result)
    case .balloon:
      var options = BalloonOptions()
      options.leastQueueSize = 1024
      options.deflateOnOutOfMemory = true
      try carry(
        BalloonDevice(options, reclaimer: MemoryReclaimer()), device.path, whole.memory, &snapshot, &result)
    case .net:
      var options = NetOptions(address: .broadcast)
      options.announcesMoves = false
      try carry(NetDevice(options, ports: [LoopbackPort()]), device.path, whole.memory, &snapshot, &result)
    default: break
    }
  }
  var options = ExportOptions()
  options.notifiesDrivers = !isQuiet
  let file = try FileDescriptor.open(output, for: .readingAndWriting, creating: .emptied)
  try whole.stream.export(
    result, memory: whole.memory, layout: whole.layout, template: .open(path, for: .reading), to: file,
    options: options)
  print(result.describe())
}

func run(_ arguments: [String]) throws {
  switch arguments.first ?? "" {
  case "show" where arguments.count == 2:
    print(try QEMUStream.read(.open(arguments[1], for: .reading)).describe())
  case "read" where arguments.count == 2 || arguments.count == 4:
    let start = ContinuousClock.now
    let block = arguments.count == 4 ? arguments[3] : nil
    let whole = try QEMUStream.readWithMemory(.open(arguments[1], for: .reading), block: block)
    print("\(whole.stream.byteCount) bytes, \(whole.stream.pages), in \(ContinuousClock.now - start)")
  case "carry" where arguments.count > 2:
    try carryAll(arguments[1], arguments[2], Array(arguments.dropFirst(3)), isQuiet: false)
  case "carry-quietly" where arguments.count > 2:
    try carryAll(arguments[1], arguments[2], Array(arguments.dropFirst(3)), isQuiet: true)
  default:
    throw QEMUStreamError.missing(
      "usage: qemu-carry show|read STREAM, or carry STREAM OUTPUT [--block NAME] [IMAGE...]")
  }
}

func isRun() -> Bool {
  do {
    try run(Array(CommandLine.arguments.dropFirst()))
    return true
  } catch {
    print("qemu-carry: \(error)")
    return false
  }
}

exit(isRun() ? 0 : 1)
