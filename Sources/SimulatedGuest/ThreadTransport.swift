import LinuxIO
public import VirtioCore

/// A device on a thread of its own: notifications are posted there, everything else waits for its answer.
public final class ThreadTransport<Device: VirtioDevice & ~Copyable>: DeviceTransport {
  private let thread: DeviceThread<Device>
  private let latch: InterruptLatch

  /// - Parameters:
  ///   - thread: the device's, with the guest's memory attached to the host.
  ///   - latch: where the host's notifications go.
  public init(_ thread: DeviceThread<Device>, _ latch: InterruptLatch) {
    self.thread = thread
    self.latch = latch
  }

  public func readFeatures() throws(TransportError) -> UInt64 {
    try ask { $0.offeredFeatures.low }
  }

  public func writeFeatures(_ features: UInt64) throws(TransportError) {
    try ask { $0.writeFeatures(Features(low: features)) }
  }

  public func readStatus() throws(TransportError) -> UInt8 {
    try ask { $0.status.rawValue }
  }

  public func writeStatus(_ status: UInt8) throws(TransportError) {
    try demand { (host) throws(HostError) in try host.takeStatus(status) }
  }

  public func readConfig(at offset: Int, byteCount: Int) throws(TransportError) -> [UInt8] {
    try ask { $0.readConfig(at: offset, byteCount: byteCount) }
  }

  public func writeConfig(_ bytes: [UInt8], at offset: Int) throws(TransportError) {
    try demand { (host) throws(HostError) in try host.writeConfig(bytes, at: offset) }
  }

  public func configGeneration() throws(TransportError) -> UInt32 {
    try ask { $0.configGeneration }
  }

  public func largestQueueSize(of queue: Int) throws(TransportError) -> UInt16 {
    try ask { $0.largestQueueSize(of: queue) }
  }

  public func startQueue(_ queue: Int, _ addresses: QueueAddresses) throws(TransportError) {
    try demand { (host) throws(HostError) in try host.startQueue(queue, addresses.configuration) }
  }

  public func notify(queue: Int) {
    thread.kick(queue)
  }

  public func takeInterrupts() -> Interrupts { latch.take() }

  private func ask<Answer: Sendable>(
    _ question: @escaping @Sendable (inout DeviceHost<Device>) -> Answer
  ) throws(TransportError) -> Answer {
    let answer: Answer?
    do throws(LinuxError) { answer = try thread.call(question) } catch { throw .system(error) }
    guard let answer else { throw .gone }
    return answer
  }

  private func demand(
    _ work: @escaping @Sendable (inout DeviceHost<Device>) throws(HostError) -> Void
  ) throws(TransportError) {
    let refusal = try ask { (host) -> HostError? in
      do throws(HostError) { try work(&host) } catch { return error }
      return nil
    }
    if let refusal { throw .refused(refusal) }
  }
}
