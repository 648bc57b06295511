import FuzzInput
import Glibc
import GuestRAM
import LinuxIO
import Migration

// A source that sends any frames, whose digests are right: without them a fuzzer would never get past the first.

private let limits = DestinationLimits(
  mostMemory: 1 << 20, mostState: 4096, time: .milliseconds(200), populatingThreadCount: 1)

/// Whether frames as this source writes them are what the library takes. If it has changed its format, nothing that is made
/// up gets to the end of a move, and the fuzzer would go on without a word.
private let isTaken: Bool = {
  do {
    let report = try move(MadeUpSource.honest())
    return report.isVerified && report.passCount == 1 && report.dataPageCount == 3 && report.zeroPageCount == 1
  } catch {
    print("an honest source fails: \(error)")
    return false
  }
}()

func run(_ input: FuzzInput) {
  require(isTaken, "an honest source's guest is taken")
  do {
    _ = try move(MadeUpSource.madeUp(of: input))
  } catch {
    // Left to the source, with a reason.
    _ = "\(error)"
  }
}

/// Has a destination take what a source has sent, which gets its answers and never looks at them.
private func move(_ stream: [UInt8]) throws -> MigrationReport {
  let pair = try UnixSocket.pair()
  try pair.first.send(stream, within: .milliseconds(200))
  // The destination can still answer.
  shutdown(pair.first.descriptor.rawValue, Int32(SHUT_WR))
  var destination = Destination(
    UnixSocket(owning: try pair.second.descriptor.duplicate()), producer: "fuzz", limits: limits)
  let arrived = try destination.receive()
  require(arrived.state.count <= limits.mostState, "no more state than allowed")
  require(arrived.memory.byteCount <= limits.mostMemory, "no more memory than allowed")
  return try destination.confirm()
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
