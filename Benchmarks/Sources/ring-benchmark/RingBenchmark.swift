import Allocations
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
    let repetitions = arguments.contains("--quick") ? 5 : 40
    let results = try Work.allCases.flatMap { work in
      try Shape.all.map { shape in
        (work, shape, try Measuring.run(try Contenders.all(shape, work), repetitions: repetitions, batches: 4000))
      }
    }
    let report = Report(results)
    print(arguments.contains("--json") ? try report.json() : report.tables)
  }
}
