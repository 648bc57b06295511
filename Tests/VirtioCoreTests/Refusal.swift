import DeviceState
import VirtioCore

/// The error that the body throws, or nil.
func refusal<Result: ~Copyable>(_ body: () throws(HostError) -> Result) -> HostError? {
  do throws(HostError) {
    _ = try body()
    return nil
  } catch {
    return error
  }
}
