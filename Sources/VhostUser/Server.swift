public import LinuxIO
public import VirtioCore

/// Serves a device on a socket, to one front-end after another.
///
/// Whoever connects while another is served waits for its turn, and so until the requests of the one before are finished.
public final class Server<Device: VirtioDevice & ~Copyable> {
  /// What happens that an operator may want to know.
  public enum Event: Sendable {
    case connected
    /// See `Session.Event`.
    case session(Session<Device>.Event)
    /// A front-end could not be accepted. The server goes on.
    case refused(LinuxError)
  }

  private let device: ServedDevice<Device>
  private let loop: EventLoop
  private let listener: UnixListener
  private let offered: ProtocolFeatures
  private let report: (Event) -> Void
  private var watch: EventLoop.Registration?
  private var session: Session<Device>?

  /// Starts to serve; `end` stops it.
  /// - Parameters:
  ///   - offered: the protocol features to offer.
  ///   - report: told on the loop's thread what happens; see `Session`.
  public init(
    _ device: ServedDevice<Device>, on listener: consuming UnixListener, loop: EventLoop,
    offering offered: ProtocolFeatures = .standard, report: @escaping (Event) -> Void
  ) throws(LinuxError) {
    self.device = device
    self.loop = loop
    self.listener = listener
    self.offered = offered
    self.report = report
    try listen()
  }

  /// Ends the session if there is one and listens no more.
  ///
  /// - Parameter drained: called once the device has finished the requests that it had; at once if it had none.
  public func end(whenDrained drained: @escaping () -> Void = {}) {
    if let watch { loop.cancel(watch) }
    watch = nil
    guard let session else { return drained() }
    session.end(whenDrained: drained)
  }

  private func listen() throws(LinuxError) {
    watch = try loop.watch(listener.descriptor.rawValue) { [weak self] in self?.accept() }
  }

  private func accept() {
    do throws(LinuxError) {
      let socket = try listener.accept()
      report(.connected)
      if let watch { try loop.change(watch, to: []) }
      session = try Session(Connection(socket), device: device, loop: loop, offering: offered) { [weak self] event in
        self?.take(event)
      }
    } catch {
      report(.refused(error))
      listenAgain()
    }
  }

  private func take(_ event: Session<Device>.Event) {
    report(.session(event))
    guard case .ended = event else { return }
    session = nil
    listenAgain()
  }

  private func listenAgain() {
    do throws(LinuxError) {
      if let watch { try loop.change(watch, to: .readable) }
    } catch {
      report(.refused(error))
    }
  }
}
