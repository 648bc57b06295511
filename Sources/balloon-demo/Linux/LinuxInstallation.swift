import Foundation

/// What a real guest is made of, where this machine has it.
struct LinuxInstallation {
  /// The module that drives the balloon.
  private static let driver = "virtio_balloon"
  private static let modulesDirectory = "/usr/lib/uml/modules"

  /// The Linux kernel as a program.
  let kernel: URL
  /// The static busybox that is all there is of user space.
  let busybox: [UInt8]
  /// The modules that the balloon's driver needs and the driver, unpacked, in loading order; none if it is built in.
  let modules: [GuestModule]

  /// Looks for all parts; the error says what to install.
  static func find() throws -> LinuxInstallation {
    guard let kernel = Tool.find("linux.uml") else {
      throw LinuxDemoError.missing("a Linux kernel that runs as a program (linux.uml)", package: "user-mode-linux")
    }
    return LinuxInstallation(kernel: kernel, busybox: try findBusybox(), modules: try findModules(for: kernel))
  }

  private static func findBusybox() throws -> [UInt8] {
    let paths = ["busybox", "busybox.static", "busybox-static"].compactMap { Tool.find($0) }
    for path in paths {
      let bytes = [UInt8](try Data(contentsOf: path))
      if ELFProgram.isStatic(bytes) { return bytes }
    }
    throw LinuxDemoError.missing(
      paths.isEmpty ? "busybox" : "a busybox that needs no libraries (\(paths[0].path) does)",
      package: "busybox-static")
  }

  private static func findModules(for kernel: URL) throws -> [GuestModule] {
    let release = String(decoding: try Tool(kernel).output(of: ["--version"]), as: UTF8.self)
      .trimmingCharacters(in: .whitespacesAndNewlines)
    let directory = URL(fileURLWithPath: modulesDirectory).appendingPathComponent(release)
    guard let list = try? String(contentsOf: directory.appendingPathComponent("modules.dep"), encoding: .utf8) else {
      throw LinuxDemoError.missing("\(directory.path), with the modules of \(kernel.path),", package: "user-mode-linux")
    }
    guard let paths = KernelModules(dependencyList: list).loadingOrder(of: driver) else {
      let builtIn = try? String(contentsOf: directory.appendingPathComponent("modules.builtin"), encoding: .utf8)
      if let builtIn, KernelModules(dependencyList: builtIn).loadingOrder(of: driver) != nil { return [] }
      throw LinuxDemoError.missing("the module \(driver) in \(directory.path)", package: "user-mode-linux")
    }
    return try paths.map { path in
      GuestModule(
        fileName: KernelModules.moduleName(of: path) + ".ko",
        content: try unpacked(directory.appendingPathComponent(path)))
    }
  }

  private static func unpacked(_ file: URL) throws -> [UInt8] {
    guard let compression = ModuleCompression(path: file.path) else { return [UInt8](try Data(contentsOf: file)) }
    let (name, package) = compression.tool
    guard let tool = Tool.find(name) else {
      throw LinuxDemoError.missing("\(name), which unpacks \(file.lastPathComponent),", package: package)
    }
    return try Tool(tool).output(of: ["-dc", file.path])
  }
}

/// A kernel module to load in the guest.
struct GuestModule: Equatable {
  let fileName: String
  let content: [UInt8]
}
