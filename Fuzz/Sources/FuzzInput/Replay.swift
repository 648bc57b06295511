import Foundation

/// Runs kept inputs without the fuzzer, one file or folder an argument: to see a crash under a debugger.
public func replay(_ run: (FuzzInput) -> Void) {
  for argument in CommandLine.arguments.dropFirst() {
    let entries = (try? FileManager.default.contentsOfDirectory(atPath: argument))?.sorted().map { argument + "/" + $0 }
    for path in entries ?? [argument] {
      guard let data = FileManager.default.contents(atPath: path) else {
        FileHandle.standardError.write(Data("\(path): cannot be read\n".utf8))
        exit(2)
      }
      print(path)
      run(FuzzInput(Array(data)))
    }
  }
}
