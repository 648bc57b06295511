import LinuxIO

/// From now on a request to end this process calls off what it does, instead of leaving a guest half moved.
///
/// Call it before any thread is started. It holds as long as the process lives.
func callOffWhenAsked(_ cancellation: Cancellation) throws(LinuxError) {
  let signals = try SignalDescriptor()
  _ = try Thread(name: "signals") {
    do throws(LinuxError) {
      let loop = try EventLoop()
      try loop.watch(signals.descriptor.rawValue) {
        _ = signals.next()
        cancellation.cancel()
      }
      try loop.run()
    } catch {
      // Better no move than one that nobody can call off.
      cancellation.cancel()
    }
  }
}
