import Foundation

@main
enum RingBenchmark {
  static func main() throws {
    let arguments = Set(CommandLine.arguments.dropFirst())
    guard arguments.isSubset(of: ["--json", "--quick"]) else {
      FileHandle.standardError.write(Data("usage: ring-benchmark [--json] [--quick]\n".utf8))
      exit(2)
    }
    guard Allocations.isCounting else {
      FileHandle.standardError.write(Data("ring-benchmark: allocations cannot be counted here\n".utf8))
      exit(1)
    }
    let results = try Shape.all.map { shape in
      let contenders = try Contenders.all(shape)
      return (
        shape,
        try Measuring.run(contenders, repetitions: arguments.contains("--quick") ? 5 : 40, batches: 4000)
      )
    }
    let report = Report(results)
    print(arguments.contains("--json") ? try report.json() : report.table)
  }
}
