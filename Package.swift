// swift-tools-version: 6.2
import PackageDescription

let settings: [SwiftSetting] = [
  .swiftLanguageMode(.v6),
  .strictMemorySafety(),
  .treatAllWarnings(as: .error),
  .enableUpcomingFeature("ExistentialAny"),
  .enableUpcomingFeature("MemberImportVisibility"),
  .enableUpcomingFeature("InternalImportsByDefault"),
]

/// A library module and the modules that it may import. The build enforces the list, so this is the architecture.
func module(_ name: String, uses: [String] = []) -> Target {
  .target(name: name, dependencies: uses.map { .byName(name: $0) }, swiftSettings: settings)
}

func program(_ name: String, uses: [String]) -> Target {
  .executableTarget(name: name, dependencies: uses.map { .byName(name: $0) }, swiftSettings: settings)
}

func tests(_ name: String, uses: [String], resources: [Resource] = []) -> Target {
  .testTarget(
    name: name, dependencies: uses.map { .byName(name: $0) }, resources: resources, swiftSettings: settings)
}

let libraries: [Target] = [
  module("LinuxIO", uses: ["CLinux"]),
  module("DeviceState"),
  module("GuestRAM", uses: ["LinuxIO"]),
  module("Virtqueue", uses: ["GuestRAM"]),
  module("VirtioCore", uses: ["Virtqueue", "GuestRAM", "DeviceState", "LinuxIO"]),
  module("Balloon", uses: ["VirtioCore", "Virtqueue", "GuestRAM", "DeviceState", "LinuxIO"]),
  module("VirtioBlk", uses: ["VirtioCore", "Virtqueue", "GuestRAM", "DeviceState", "LinuxIO"]),
  module("VirtioNet", uses: ["VirtioCore", "Virtqueue", "GuestRAM", "DeviceState", "LinuxIO"]),
  module("Migration", uses: ["GuestRAM", "LinuxIO"]),
  module("VhostUser", uses: ["VirtioCore", "Virtqueue", "GuestRAM", "DeviceState", "LinuxIO"]),
  module(
    "QEMUStream",
    uses: ["Balloon", "VirtioBlk", "VirtioNet", "VirtioCore", "GuestRAM", "DeviceState", "LinuxIO"]),
  module("SimulatedGuest", uses: ["VirtioCore", "Virtqueue", "GuestRAM", "DeviceState", "LinuxIO"]),
  module(
    "Recording",
    uses: ["Balloon", "VirtioBlk", "VirtioNet", "VirtioCore", "Virtqueue", "GuestRAM", "DeviceState", "LinuxIO"]),
  module("Options"),
]

/// What programs share and nobody else has a use for.
let shared: [Target] = [
  module("ReportPage")
]

let programs: [Target] = [
  program(
    "balloon-demo",
    uses: [
      "Balloon", "VirtioCore", "SimulatedGuest", "Migration", "VhostUser", "GuestRAM", "DeviceState", "LinuxIO",
      "Options", "ReportPage",
    ]),
  program(
    "virtiokit",
    uses: [
      "Recording", "Balloon", "VirtioBlk", "VirtioNet", "VirtioCore", "VhostUser", "Migration", "GuestRAM",
      "DeviceState", "LinuxIO", "Options", "QEMUStream", "ReportPage",
    ]),
]

/// What checks of `EndToEnd` need beside the programs.
let checkTools: [Target] = [
  .executableTarget(
    name: "qemu-carry",
    dependencies: [
      "QEMUStream", "Balloon", "VirtioBlk", "VirtioNet", "VirtioCore", "GuestRAM", "DeviceState",
      "LinuxIO",
    ], path: "EndToEnd/qemu-carry", swiftSettings: settings)
]

let testTargets: [Target] = [
  .target(
    name: "Support", dependencies: ["GuestRAM", "Virtqueue", "VirtioCore", "DeviceState", "LinuxIO", "CLinux"],
    path: "Tests/Support", swiftSettings: settings),
  tests("LinuxIOTests", uses: ["LinuxIO", "Support"]),
  tests("DeviceStateTests", uses: ["DeviceState"], resources: [.copy("Fixtures")]),
  tests("GuestRAMTests", uses: ["GuestRAM", "LinuxIO", "Support"]),
  tests("VirtqueueTests", uses: ["Virtqueue", "GuestRAM", "LinuxIO", "Support"]),
  tests("VirtioCoreTests", uses: ["VirtioCore", "Virtqueue", "GuestRAM", "DeviceState", "LinuxIO", "Support"]),
  tests(
    "ConformanceTests",
    uses: ["VirtioCore", "Virtqueue", "GuestRAM", "DeviceState", "Support", "Balloon", "VirtioBlk", "VirtioNet"]),
  tests(
    "BalloonTests", uses: ["Balloon", "VirtioCore", "Virtqueue", "GuestRAM", "DeviceState", "LinuxIO", "Support"],
    resources: [.copy("Fixtures")]),
  tests(
    "VirtioBlkTests", uses: ["VirtioBlk", "VirtioCore", "Virtqueue", "GuestRAM", "DeviceState", "LinuxIO", "Support"],
    resources: [.copy("Fixtures")]),
  tests(
    "VirtioNetTests", uses: ["VirtioNet", "VirtioCore", "Virtqueue", "GuestRAM", "DeviceState", "LinuxIO", "Support"],
    resources: [.copy("Fixtures")]),
  tests(
    "StateFixtureTests",
    uses: ["VirtioCore", "Virtqueue", "GuestRAM", "DeviceState", "Support", "Balloon", "VirtioBlk", "VirtioNet"],
    resources: [.copy("Fixtures")]),
  tests("MigrationTests", uses: ["Migration", "GuestRAM", "LinuxIO", "Support"]),
  tests("VhostUserTests", uses: ["VhostUser", "VirtioCore", "Virtqueue", "GuestRAM", "DeviceState", "LinuxIO"]),
  tests(
    "VirtiokitTests",
    uses: [
      "virtiokit", "Balloon", "VirtioBlk", "VirtioNet", "VirtioCore", "DeviceState", "Migration", "GuestRAM", "LinuxIO",
      "Options",
    ]),
  tests(
    "QEMUStreamTests",
    uses: [
      "QEMUStream", "Balloon", "VirtioBlk", "VirtioNet", "VirtioCore", "GuestRAM", "DeviceState", "LinuxIO", "Support",
    ],
    resources: [.copy("Fixtures")]),
  tests(
    "RecordingTests",
    uses: [
      "Recording", "Balloon", "VirtioBlk", "VirtioNet", "VirtioCore", "Virtqueue", "GuestRAM", "DeviceState", "LinuxIO",
      "Support",
    ], resources: [.copy("Fixtures")]),
  tests("OptionsTests", uses: ["Options"]),
  tests(
    "SimulatedGuestTests",
    uses: [
      "SimulatedGuest", "Balloon", "VirtioBlk", "VirtioNet", "VirtioCore", "Virtqueue", "GuestRAM", "DeviceState",
      "LinuxIO", "Support",
    ],
    resources: [.copy("Fixtures")]),
  tests(
    "BalloonDemoTests",
    uses: [
      "balloon-demo", "Options", "ReportPage", "Balloon", "SimulatedGuest", "VirtioCore", "Migration", "LinuxIO",
    ]),
  tests(
    "DeviceMoveTests",
    uses: [
      "Migration", "SimulatedGuest", "Balloon", "VirtioBlk", "VirtioNet", "VirtioCore", "Virtqueue", "GuestRAM",
      "DeviceState", "LinuxIO", "Support",
    ]),
]

let package = Package(
  name: "VirtioKit",
  products: libraries.map { .library(name: $0.name, targets: [$0.name]) }
    + programs.map { .executable(name: $0.name, targets: [$0.name]) },
  targets: [.systemLibrary(name: "CLinux")] + libraries + shared + programs + checkTools + testTargets
)
