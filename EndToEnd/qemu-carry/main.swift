import LinuxIO
import QEMUStream

func run() throws {
  let arguments = CommandLine.arguments
  switch arguments.count > 2 ? arguments[1] : "" {
  case "show":
    print(try QEMUStream.read(.open(arguments[2], for: .reading)).describe())
  case "read":
    let start = ContinuousClock.now
    let whole = try QEMUStream.readWithMemory(.open(arguments[2], for: .reading))
    print(whole.stream.byteCount, whole.stream.pages, ContinuousClock.now - start)
  default: print("usage: qemu-carry show|read FILE")
  }
}

do {
  try run()
} catch {
  print("qemu-carry: \(error)")
}
