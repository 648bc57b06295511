import Foundation
import FuzzInput
import Recording

// Recordings of any device whose checksums are right, and the same bytes as they are. `Fuzz/run` begins with those of
// Tests/RecordingTests/Fixtures.

func run(_ input: FuzzInput) {
  var input = input
  let file = input.rest()
  for isMended in [false, true] {
    do throws(RecordingError) {
      let recording = try Recording(isMended ? try Recording.mended(file) : file)
      let result = try recording.replay()
      require(result.stepCount <= recording.stepCount, "no step is taken twice")
    } catch {
      // Refused, by name.
      _ = "\(error)"
    }
  }
}

#if FUZZ
  @c(LLVMFuzzerTestOneInput)
  public func fuzz(_ start: UnsafePointer<UInt8>?, _ count: Int) -> CInt {
    run(FuzzInput(start, count))
    return 0
  }
#else
  @main enum Program {
    /// Makes a recording of each input first, which `virtiokit replay` takes and which can be kept as a test.
    static func main() throws {
      for path in CommandLine.arguments.dropFirst() where !path.hasSuffix(".rec") {
        guard let file = FileManager.default.contents(atPath: path) else { continue }
        try Data(try Recording.mended(Array(file))).write(to: URL(fileURLWithPath: path + ".rec"))
      }
      replay(run)
    }
  }
#endif
