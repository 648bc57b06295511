import LinuxIO
import Options

/// Whether each pair of queues has a thread for its port's system calls.
///
/// A thread costs a handover for each batch, which pays where it finds a processor beside the guest's and the card's own.
enum PairThreads: String, CaseIterable, OptionValue {
  case auto, always, never

  func areWanted(pairCount: Int, processorCount: Int = Processors.availableCount) -> Bool {
    switch self {
    case .auto: pairCount > 1 && processorCount > 2
    case .always: true
    case .never: false
    }
  }
}
