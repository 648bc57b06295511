import GuestRAM
import LinuxIO

/// Taking a guest from another process of the same machine, with the memory that it is in.
extension Destination where Link: ~Copyable {
  /// Takes the memory's files, and has them mapped before the source stops its guest; then the guest's state. None of the
  /// memory is touched.
  mutating func takeFiles(
    _ description: GuestDescription
  ) throws(MigrationError) -> (GuestMemory, state: [UInt8]) {
    try answer(.accept)
    let received = try stream.receiver.receive(.files, mostDescriptors: limits.mostFiles)
    let files = try MemoryFiles(received, regionCount: description.regions.count)
    let memory = try files.map(description.regions)
    if limits.pinsMemory { try inGuestMemory { () throws(GuestMemoryError) in _ = try memory.pin() } }
    try answer(.accept)
    report.handedOverByteCount = memory.byteCount
    return (memory, try receiveStateAlone())
  }

  /// Receives the state of a guest whose memory is here already. A page that came now would be written into the memory
  /// that the source may run on with.
  private mutating func receiveStateAlone() throws(MigrationError) -> [UInt8] {
    var state: [UInt8] = []
    while true {
      let frame = try stream.receive()
      switch frame.kind {
      case .state: try append(frame, to: &state)
      case .complete:
        report.stateByteCount = UInt64(state.count)
        let received = Completion(
          dataPageCount: 0, zeroPageCount: 0, outstandingPageCount: 0, stateByteCount: report.stateByteCount,
          stateDigest: GuestMemory.digest(of: state), isToVerify: false)
        guard try Completion(frame.payload) == received else { throw .incomplete }
        return state
      default: throw .unexpectedFrame(frame.kind)
      }
    }
  }
}
