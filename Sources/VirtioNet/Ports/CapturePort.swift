import LinuxIO

/// Another port, with everything that goes through it written to a file that Wireshark reads (pcapng).
///
/// Packets from the card are outbound, those to it inbound. Each call writes its packets at once, so the file is
/// complete at any time. Writing waits for the disk if the disk is slow. When it fails, the capture ends and the port
/// goes on.
public final class CapturePort: PacketPort {
  private let port: any PacketPort
  private let file: CaptureFile

  /// - Parameters:
  ///   - port: what to capture; whoever uses this port leaves it alone.
  ///   - path: of the file; one that is there is replaced.
  ///   - snapByteCount: how much of each frame is kept; all of it when nil.
  public init(_ port: any PacketPort, to path: String, snapByteCount: Int? = nil) throws(PortError) {
    self.port = port
    file = try CaptureFile(path: path, interface: port.name, snapByteCount: snapByteCount)
  }

  /// Why nothing is captured any more; nil while everything is.
  public var captureFailure: PortError? { file.failure }

  public var name: String { port.name }
  public var takenOffloads: Offloads { port.takenOffloads }
  public func setGivenOffloads(_ offloads: Offloads) { port.setGivenOffloads(offloads) }
  public var descriptor: Int32? { port.descriptor }
  public var counters: PortCounters { port.counters }
  public var failure: PortError? { port.failure }

  public func send(_ batch: inout PacketBatch) {
    guard file.failure == nil else { return port.send(&batch) }
    // Afterwards those that were taken are no longer there to be seen.
    let count = batch.count
    file.add(0..<count, of: batch, .outbound)
    port.send(&batch)
    file.write(count - batch.count)
  }

  public func receive(into batch: inout PacketBatch) {
    let count = batch.count
    port.receive(into: &batch)
    guard file.failure == nil, batch.count > count else { return }
    file.add(count..<batch.count, of: batch, .inbound)
    file.write(batch.count - count)
  }
}
