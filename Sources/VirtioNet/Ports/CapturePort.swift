import LinuxIO

/// Another port, with everything that goes through it written to a file.
///
/// Packets from the card are outbound, those to it inbound. Each call writes its packets at once, so the file is
/// complete at any time. Writing waits for the disk if the disk is slow. When it fails, the capture ends and the port
/// goes on.
public final class CapturePort: PacketPort {
  private let port: any PacketPort
  private let file: CaptureFile
  private let interface: UInt32

  /// - Parameters:
  ///   - port: what to capture; whoever uses this port leaves it alone.
  ///   - file: shared with other ports of the thread; each is an interface of its own there.
  public init(_ port: any PacketPort, to file: CaptureFile) {
    self.port = port
    self.file = file
    interface = file.addInterface(port.name)
  }

  /// The same with a file that nobody shares.
  public convenience init(_ port: any PacketPort, to path: String, snapByteCount: Int? = nil) throws(PortError) {
    self.init(port, to: try CaptureFile(path: path, snapByteCount: snapByteCount))
  }

  /// Why nothing is captured any more; nil while everything is.
  public var captureFailure: PortError? { file.failure }

  public var name: String { port.name }
  public var takenOffloads: Offloads { port.takenOffloads }
  public func setGivenOffloads(_ offloads: Offloads) { port.setGivenOffloads(offloads) }
  public func finishSending() { port.finishSending() }
  public var descriptor: Int32? { port.descriptor }
  public var counters: PortCounters { port.counters }
  public var failure: PortError? { port.failure }

  public func send(_ batch: inout PacketBatch) {
    guard file.failure == nil else { return port.send(&batch) }
    // Afterwards those that were taken are no longer there to be seen.
    let count = batch.count
    file.add(0..<count, of: batch, .outbound, interface: interface)
    port.send(&batch)
    file.write(count - batch.count)
  }

  public func receive(into batch: inout PacketBatch) {
    let count = batch.count
    port.receive(into: &batch)
    guard file.failure == nil, batch.count > count else { return }
    file.add(count..<batch.count, of: batch, .inbound, interface: interface)
    file.write(batch.count - count)
  }
}
