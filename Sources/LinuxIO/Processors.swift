import CLinux
import Glibc

/// The machine's processors.
public enum Processors {
  /// How many this thread may run on: those of the machine, or fewer that it was given (`taskset`, control groups' sets).
  public static var availableCount: Int {
    var processors = cpu_set_t()
    let byteCount = MemoryLayout<cpu_set_t>.size
    guard unsafe sched_getaffinity(0, byteCount, &processors) == 0 else {
      // There are more than the set has room for.
      return max(1, sysconf(Int32(_SC_NPROCESSORS_ONLN)))
    }
    return unsafe withUnsafeBytes(of: processors) { bytes in unsafe bytes.reduce(0) { $0 + $1.nonzeroBitCount } }
  }
}
