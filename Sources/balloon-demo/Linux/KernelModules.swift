/// The modules that one kernel release brings, as its `modules.dep` lists them.
struct KernelModules {
  private let dependencies: [Substring: [Substring]]

  /// - Parameter text: lines of a module's path, a colon, and the paths of the modules that it needs.
  init(dependencyList text: String) {
    var dependencies: [Substring: [Substring]] = [:]
    for line in text.split(separator: "\n") {
      let parts = line.split(separator: ":", maxSplits: 1)
      guard let path = parts.first else { continue }
      dependencies[path] = parts.count > 1 ? parts[1].split(separator: " ") : []
    }
    self.dependencies = dependencies
  }

  /// The files to load for a module, in the order in which to load them; nil when there is no such module.
  ///
  /// The list names all that a module needs, directly or not, with what is needed first at its end.
  func loadingOrder(of name: String) -> [String]? {
    guard let path = dependencies.keys.first(where: { Self.moduleName(of: $0) == name }) else { return nil }
    return (dependencies[path, default: []].reversed() + [path]).map(String.init)
  }

  /// `virtio_balloon` for `kernel/drivers/virtio/virtio-balloon.ko.xz`: file names may have either dash.
  static func moduleName(of path: some StringProtocol) -> String {
    let file = path[(path.lastIndex(of: "/").map(path.index(after:)) ?? path.startIndex)...]
    return String(file.prefix { $0 != "." }.map { $0 == "-" ? "_" : $0 })
  }
}

/// How a module's file is packed.
enum ModuleCompression: String, CaseIterable {
  case xz = ".xz"
  case zstandard = ".zst"
  case gzip = ".gz"

  /// Nil for a plain file.
  init?(path: String) {
    guard let match = Self.allCases.first(where: { path.hasSuffix($0.rawValue) }) else { return nil }
    self = match
  }

  /// The program that unpacks to its standard output, and the Debian package that has it.
  var tool: (name: String, package: String) {
    switch self {
    case .xz: ("xz", "xz-utils")
    case .zstandard: ("zstd", "zstd")
    case .gzip: ("gzip", "gzip")
    }
  }
}
