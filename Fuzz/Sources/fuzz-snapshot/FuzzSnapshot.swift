import Balloon
import DeviceState
import FuzzInput
import GuestRAM
import SimulatedGuest
import VirtioCore

// Snapshots that come from anywhere: whole ones, and sections whose checksums are right and whose fields are not.

private let memory = try? GuestMemory(byteCount: 0x10000)

func run(_ input: FuzzInput) {
  var input = input
  let choice = input.byte()
  let version = Int(input.byte() & 3)
  do {
    switch choice & 3 {
    case 0: try check(Snapshot(decoding: input.rest()))
    case 1:
      let state = try check(BalloonState.self, input.rest(), version)
      var device = BalloonDevice(reclaimer: MemoryReclaimer(), clock: { 0 })
      try device.adopt(state)
      _ = device.state
    case 2: _ = try check(GuestState.self, input.rest(), version)
    default:
      let payload = input.bytes(upTo: Int(input.integer(UInt16.self)))
      try restore(payload, input.rest())
    }
  } catch {
    // Refused, by name.
    _ = "\(error)"
  }
}

/// What is read can be printed, and is written again as it was.
private func check(_ snapshot: Snapshot) throws {
  _ = snapshot.describe()
  _ = snapshot.json
  require(try Snapshot(decoding: snapshot.encoded()) == snapshot, "a snapshot is the same after a round trip")
}

private func check<State: SavedState>(_: State.Type, _ payload: [UInt8], _ version: Int) throws -> State {
  var snapshot = Snapshot()
  try snapshot.add(SnapshotSection(name: State.section, version: version, payload: payload))
  try check(snapshot)
  let state = try snapshot.read(State.self)
  guard version == State.version else { return state }
  var again = Snapshot()
  try again.add(state)
  require(again.sections[0].payload == payload, "there is one way to write a state")
  return state
}

/// A host that takes a snapshot, or does not, serves and saves afterwards.
private func restore(_ host: [UInt8], _ model: [UInt8]) throws {
  guard let memory else { preconditionFailure("no memory for the guest") }
  var device = DeviceHost(BalloonDevice(reclaimer: MemoryReclaimer(), clock: { 0 })) { _ in }
  try device.attach(memory)
  var snapshot = Snapshot()
  try snapshot.add(SnapshotSection(name: "balloon-host", version: 1, payload: host))
  try snapshot.add(SnapshotSection(name: "balloon", version: BalloonState.version, payload: model))
  try device.restore(from: &snapshot)
  var again = Snapshot()
  try device.save(into: &again)
  require(again.sections[0].payload == host, "a host saves what it took")
  _ = device.resume()
  for queue in 0..<device.queueCount { _ = device.kick(queue) }
}

#if FUZZ
  @c(LLVMFuzzerTestOneInput)
  public func fuzz(_ start: UnsafePointer<UInt8>?, _ count: Int) -> CInt {
    run(FuzzInput(start, count))
    return 0
  }
#else
  @main enum Program {
    static func main() { replay(run) }
  }
#endif
