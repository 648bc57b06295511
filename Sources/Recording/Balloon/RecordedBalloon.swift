public import Balloon
public import LinuxIO
import VirtioCore

extension BalloonDevice: RecordableDevice {
  public mutating func obey(_ order: Act) -> Bool {
    switch (order.kind, order.numbers.first) {
    case (.setTarget, let pageCount?): setTarget(BalloonTarget(pageCount: UInt32(clamping: pageCount)))
    case (.requestStatistics, nil): requestStatistics()
    case (.pollStatistics, let interval): pollStatistics(every: interval)
    default: return false
    }
    return true
  }
}

/// A balloon that is recorded, with the clock that it goes by.
extension RecordedDevice where Model: ~Copyable {
  /// - Parameters:
  ///   - sink: where the recording goes; nil for a balloon that is not recorded.
  ///   - clock: nanoseconds since whatever moment; never goes back.
  public init<Reclaimer: PageReclaimer>(
    _ options: BalloonOptions = BalloonOptions(), reclaimer: Reclaimer, to sink: RecordingSink?,
    clock: @escaping () -> UInt64 = { MonotonicClock.now }
  ) where Model == BalloonDevice<RecordedReclaimer<Reclaimer>> {
    let recorder = sink.map { Recorder(of: .balloon, BalloonSetup(options), to: $0) }
    let model = Model(options, reclaimer: RecordedReclaimer(reclaimer, recorder: recorder)) {
      let now = clock()
      recorder?.note(Act(.time), Answer([now]))
      return now
    }
    self.init(model, recorder: recorder)
  }

  /// See `BalloonDevice`.
  public mutating func setTarget<Reclaimer>(_ target: BalloonTarget) where Model == BalloonDevice<Reclaimer> {
    obey(Act(.setTarget, UInt64(target.pageCount))) { $0.setTarget(target) }
  }

  /// See `BalloonDevice`.
  public mutating func requestStatistics<Reclaimer>() where Model == BalloonDevice<Reclaimer> {
    obey(Act(.requestStatistics)) { $0.requestStatistics() }
  }

  /// See `BalloonDevice`.
  public mutating func pollStatistics<Reclaimer>(every interval: UInt64?) where Model == BalloonDevice<Reclaimer> {
    var order = Act(.pollStatistics)
    order.numbers = interval.map { [$0] } ?? []
    obey(order) { $0.pollStatistics(every: interval) }
  }
}
