// swift-tools-version: 6.2
import PackageDescription

/// The program's malloc, which counts, is found by the libraries that it loads only if it is exported.
let countingLinkerSettings: [LinkerSetting] = [
  .unsafeFlags(["malloc", "calloc", "realloc"].flatMap { ["-Xlinker", "--export-dynamic-symbol=\($0)"] })
]

func libraries(_ names: String...) -> [Target.Dependency] {
  names.map { .product(name: $0, package: "VirtioKit") }
}

let package = Package(
  name: "Benchmarks",
  dependencies: [.package(name: "VirtioKit", path: "..")],
  targets: [
    .target(name: "Allocations", swiftSettings: [.swiftLanguageMode(.v6), .enableExperimentalFeature("Extern")]),
    .executableTarget(
      name: "ring-benchmark",
      dependencies: ["Allocations"] + libraries("DeviceState", "GuestRAM", "LinuxIO", "VirtioCore", "Virtqueue"),
      swiftSettings: [.swiftLanguageMode(.v6)],
      linkerSettings: countingLinkerSettings),
    .executableTarget(
      name: "net-benchmark",
      dependencies: ["Allocations"] + libraries("GuestRAM", "LinuxIO", "VirtioCore", "VirtioNet", "Virtqueue"),
      swiftSettings: [.swiftLanguageMode(.v6)],
      linkerSettings: countingLinkerSettings),
    .executableTarget(
      name: "balloon-benchmark",
      dependencies: libraries("Balloon", "GuestRAM", "LinuxIO", "VirtioCore", "Virtqueue"),
      swiftSettings: [.swiftLanguageMode(.v6)]),
    .executableTarget(
      name: "pairs-benchmark",
      dependencies: ["GuestRAM", "LinuxIO", "VirtioCore", "VirtioNet", "Virtqueue"].map {
        .product(name: $0, package: "VirtioKit")
      },
      swiftSettings: [.swiftLanguageMode(.v6)]),
    .executableTarget(
      name: "state-benchmark",
      dependencies: libraries(
        "Balloon", "DeviceState", "GuestRAM", "LinuxIO", "VirtioBlk", "VirtioCore", "VirtioNet", "Virtqueue"),
      swiftSettings: [.swiftLanguageMode(.v6)]),
    .executableTarget(
      name: "postcopy-benchmark",
      dependencies: libraries("GuestRAM", "LinuxIO", "Migration"),
      swiftSettings: [.swiftLanguageMode(.v6)]),
    .executableTarget(
      name: "codec-benchmark",
      dependencies: ["LinuxIO", "Migration"].map { .product(name: $0, package: "VirtioKit") },
      swiftSettings: [.swiftLanguageMode(.v6)]),
    .executableTarget(
      name: "standstill-benchmark", dependencies: libraries("GuestRAM", "LinuxIO", "Migration"),
      swiftSettings: [.swiftLanguageMode(.v6)]),
    .executableTarget(
      name: "migration-benchmark",
      dependencies: libraries("GuestRAM", "LinuxIO", "Migration"),
      swiftSettings: [.swiftLanguageMode(.v6)]),
  ]
)
