// How long a guest stands still when it is handed over, saved while it runs, and restored.
//
//   standstill-benchmark hand-over [MiB ...]     to another process of this machine; 256, 2048 and 8192
//   standstill-benchmark snapshot PATH [MiB]     into a file, with a thread that writes all the time
//   standstill-benchmark restore PATH [MiB]      out of a file, eagerly and lazily
import GuestRAM
import LinuxIO
import Migration

let limits = DestinationLimits(mostMemory: 64 << 30, time: .seconds(120), mostFiles: 8)

func milliseconds(_ seconds: Double) -> String { "\((seconds * 1e5).rounded() / 100) ms" }

func seconds(_ body: () throws -> Void) rethrows -> Double {
  let start = MonotonicClock.now
  try body()
  return Double(MonotonicClock.now - start) / 1e9
}

/// What the other process does: its standard input is the connection.
func receive() throws {
  let link = try MigrationListener(.descriptor(0)).accept(within: .seconds(10))
  var destination = Destination(link, producer: "standstill-benchmark", limits: limits)
  let guest = try destination.receive()
  _ = try destination.confirm()
  // It has the memory: a page is read, which the source wrote.
  guard try guest.memory.read(UInt64.self, at: GuestAddress(0)) != 0 else { throw MigrationError.incomplete }
}

func handOver(mebibytes: UInt64, program: String) throws {
  let guest = try Guest(byteCount: mebibytes << 20)
  var (wholes, downtimes) = ([Double](), [Double]())
  for _ in 0..<5 {
    let pair = try Socket.pair(.stream)
    let child = try ChildProcess(
      program, ["receive"], streams: .init(input: .descriptor(pair.second.descriptor.rawValue)))
    let link = try MigrationLink.connect(
      to: .descriptor(pair.first.descriptor.duplicate().release()), within: .seconds(10))
    var moved = guest
    let report = try Source(link, producer: "standstill-benchmark").handOver(&moved)
    wholes.append(report.seconds)
    downtimes.append(report.downtimeSeconds ?? 0)
    guard try child.waitUntilExit(within: .seconds(10)) == .exit(0) else { throw MigrationError.incomplete }
  }
  let resident = try guest.memory.residentByteCount() >> 20
  print(
    "\(mebibytes) MiB, \(resident) in use: downtime \(downtimes.sorted().map(milliseconds)), with the start of the other "
      + "process \(wholes.sorted().map(milliseconds))")
}

func snapshot(_ path: String, mebibytes: UInt64) throws {
  let guest = try Guest(byteCount: mebibytes << 20, isWriting: true)
  defer { guest.end() }
  let before = guest.writeCount.load(ordering: .relaxed)
  let watch = try Cancellation()
  try watch.wait(.seconds(1))
  let free = guest.writeCount.load(ordering: .relaxed) - before
  let link = try MigrationLink.connect(to: .file(path: path), within: .seconds(10), overwriting: true)
  var saved = guest
  let start = guest.writeCount.load(ordering: .relaxed)
  let report = try Source(link, producer: "standstill-benchmark").snapshot(&saved)
  let written = Double(guest.writeCount.load(ordering: .relaxed) - start) / report.seconds
  print(
    "\(mebibytes) MiB: stopped for \(milliseconds(report.downtimeSeconds ?? 0)), saved in \(milliseconds(report.seconds)), "
      + "\(report.asidePageCount) pages put aside; writes a second: \(free) before, \(Int(written)) meanwhile")
}

func restore(_ path: String, mebibytes: UInt64) throws {
  try {
    let guest = try Guest(byteCount: mebibytes << 20)
    let link = try MigrationLink.connect(to: .file(path: path), within: .seconds(10), overwriting: true)
    _ = try Source(link, producer: "standstill-benchmark").move(guest.memory, state: [1])
  }()
  let eager = try seconds {
    let link = try MigrationListener(.file(path: path)).accept(within: .seconds(10))
    var destination = Destination(link, producer: "standstill-benchmark", limits: limits)
    _ = try destination.receive()
  }
  print("\(mebibytes) MiB: all of it in \(milliseconds(eager))")
  var memory: LazyMemory?
  let lazy = try seconds { memory = try SavedGuest(file: path, limits: limits).restore { print($0) } }
  guard let memory else { return }
  var waits: [Double] = []
  for index in 0..<64 as Range<UInt64> {
    let page = (index * 40_503 + 7) % (mebibytes << 8)
    waits.append(try seconds { _ = try memory.memory.read(UInt64.self, at: GuestAddress(page * 4096)) })
  }
  waits.sort()
  let report = try memory.waitUntilWhole(within: .seconds(120))
  print(
    "lazily: runs after \(milliseconds(lazy)), a page in \(milliseconds(waits[32])) at the median and "
      + "\(milliseconds(waits[63])) at most, all in \(milliseconds(report?.seconds ?? 0))")
}

let arguments = Array(CommandLine.arguments.dropFirst())
let sizes = arguments.dropFirst().compactMap { UInt64($0) }
switch (arguments.first, arguments.dropFirst().first) {
case ("receive", _): try receive()
case ("hand-over", _):
  for size in sizes.isEmpty ? [256, 2048, 8192] : sizes {
    try handOver(mebibytes: size, program: FileDescriptor.fullPath(of: "/proc/self/exe"))
  }
case ("snapshot", .some(let path)): try snapshot(path, mebibytes: sizes.first ?? 1024)
case ("restore", .some(let path)): try restore(path, mebibytes: sizes.first ?? 1024)
default: print("standstill-benchmark hand-over [MiB ...] | snapshot PATH [MiB] | restore PATH [MiB]")
}
