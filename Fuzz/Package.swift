// swift-tools-version: 6.2
import PackageDescription

func fuzzer(_ name: String, uses: [String]) -> Target {
  .executableTarget(
    name: name,
    dependencies: ["FuzzInput"] + uses.map { .product(name: $0, package: "VirtioKit") },
    swiftSettings: [.swiftLanguageMode(.v6)])
}

let package = Package(
  name: "Fuzz",
  dependencies: [.package(name: "VirtioKit", path: "..")],
  targets: [
    .target(name: "FuzzInput", swiftSettings: [.swiftLanguageMode(.v6)]),
    fuzzer("fuzz-ring", uses: ["GuestRAM", "Virtqueue"]),
    fuzzer("fuzz-vhost-user", uses: ["Balloon", "LinuxIO", "VhostUser", "VirtioCore"]),
    fuzzer("fuzz-snapshot", uses: ["Balloon", "DeviceState", "GuestRAM", "SimulatedGuest", "VirtioCore"]),
    fuzzer("fuzz-net", uses: ["DeviceState", "GuestRAM", "VirtioCore", "VirtioNet", "Virtqueue"]),
    fuzzer("fuzz-recording", uses: ["Recording"]),
    fuzzer("fuzz-migration", uses: ["GuestRAM", "LinuxIO", "Migration"]),
  ]
)
