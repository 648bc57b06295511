// swift-tools-version: 6.2
import PackageDescription

let package = Package(
  name: "Benchmarks",
  dependencies: [.package(name: "VirtioKit", path: "..")],
  targets: [
    .executableTarget(
      name: "ring-benchmark",
      dependencies: ["DeviceState", "GuestRAM", "LinuxIO", "VirtioCore", "Virtqueue"].map {
        .product(name: $0, package: "VirtioKit")
      },
      swiftSettings: [.swiftLanguageMode(.v6), .enableExperimentalFeature("Extern")],
      // The program's malloc, which counts, is found by the libraries that it loads only if it is exported.
      linkerSettings: [
        .unsafeFlags(["malloc", "calloc", "realloc"].flatMap { ["-Xlinker", "--export-dynamic-symbol=\($0)"] })
      ]),
    .executableTarget(
      name: "balloon-benchmark",
      dependencies: ["Balloon", "GuestRAM", "LinuxIO", "VirtioCore", "Virtqueue"].map {
        .product(name: $0, package: "VirtioKit")
      },
      swiftSettings: [.swiftLanguageMode(.v6)]),
    .executableTarget(
      name: "codec-benchmark",
      dependencies: ["LinuxIO", "Migration"].map { .product(name: $0, package: "VirtioKit") },
      swiftSettings: [.swiftLanguageMode(.v6)]),
  ]
)
