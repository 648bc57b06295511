public import DeviceState
import VirtioCore

extension BalloonDevice {
  public var state: BalloonState {
    let now = clock()
    var state = BalloonState()
    state.numbering = queueRoles.numbering
    state.targetPages = fields.targetPages
    state.actualPages = fields.actualPages
    state.poisonValue = fields.poisonValue
    state.hintCommand = hints.command
    state.hintPhase = hints.phase
    state.lastHintRound = hints.lastRound
    state.statisticsHeld = statistics.isHeld
    state.statisticsRequested = statistics.isRequested
    state.pollInterval = statistics.pollInterval
    state.lastReportAge = statistics.table.lastReport.map { now &- $0 }
    state.statistics = statistics.table.saved(at: now)
    state.counters = counters
    return state
  }

  public mutating func adopt(_ state: BalloonState) throws(StateError) {
    let queues = BalloonQueues(features: features, numbering: state.numbering)
    try check(state, queues)
    let now = clock()
    queueRoles = queues
    fields = BalloonConfig(
      targetPages: state.targetPages, actualPages: state.actualPages, hintCommand: 0, poisonValue: state.poisonValue)
    hints = HintSession(command: state.hintCommand, phase: state.hintPhase, lastRound: state.lastHintRound)
    statistics.table = StatisticTable(state.statistics, lastReportAge: state.lastReportAge, at: now)
    statistics.isHeld = state.statisticsHeld
    statistics.isRequested = state.statisticsRequested
    statistics.pollInterval = state.pollInterval
    counters = state.counters
  }

  private func check(_ state: BalloonState, _ queues: BalloonQueues) throws(StateError) {
    if state.statisticsHeld, queues.index(of: .statistics) == nil {
      throw invalid("statisticsHeld", "is set, but there is no statistics queue")
    }
    if state.statisticsHeld, state.lastReportAge == nil {
      throw invalid("lastReportAge", "is missing, but statistics have come")
    }
    if let interval = state.pollInterval, interval < StatisticsDesk.leastInterval {
      throw invalid("pollInterval", "is below a millisecond")
    }
    if Set(state.statistics.map(\.tag)).count != state.statistics.count {
      throw invalid("statistics", "has a tag twice")
    }
    try checkHints(state, queues)
  }

  private func checkHints(_ state: BalloonState, _ queues: BalloonQueues) throws(StateError) {
    if state.hintPhase != .idle, queues.index(of: .hinting) == nil {
      throw invalid("hintPhase", "is not idle, but there is no hinting queue")
    }
    let isRound = state.hintCommand != HintSession.stop && state.hintCommand != HintSession.done
    if isRound != (state.hintPhase != .idle) {
      throw invalid("hintPhase", "does not fit the command \(state.hintCommand)")
    }
    if isRound, state.hintCommand != state.lastHintRound {
      throw invalid("lastHintRound", "is not the round that is running")
    }
  }

  private func invalid(_ field: String, _ reason: String) -> StateError {
    .invalidValue(section: BalloonState.section, field: field, reason: reason)
  }
}
