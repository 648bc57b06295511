import GuestRAM
import LinuxIO

/// The files that a QEMU's guest has as its memory, by id, one after another from address 0: what goes from one QEMU to
/// another is the files, whatever the guest's own addresses are.
struct QemuMemory {
  /// A memory backend that QEMU was given: `-object memory-backend-file,id=…,mem-path=…,share=on`.
  struct File: Equatable {
    let id: String
    let path: String
    let byteCount: UInt64
  }

  let files: [File]

  /// Asks QEMU. All of the guest's memory has to be in shared files, or QEMU would carry the rest itself.
  init(of machine: QemuMachine) throws {
    let answer = try machine.qmp.execute("query-memdev")
    guard let backends = answer.array else {
      throw QmpError.unexpected(command: "query-memdev", answer: "\(answer)")
    }
    guard !backends.isEmpty else { throw QemuMemoryError.none }
    // QEMU tells them in the order of a hash table, which is another on the other side.
    files = try backends.map { (backend) in try Self.file(backend, machine) }.sorted { $0.id < $1.id }
  }

  /// Which file is where, and how large: the same on both sides, or one would come to lie in another.
  var layout: String {
    files.map { "\($0.id) of \($0.byteCount) bytes" }.joined(separator: ", ")
  }

  private static func file(_ backend: JSON, _ machine: QemuMachine) throws -> File {
    guard let byteCount = backend["size"]?.number, let isShared = backend["share"]?.bool else {
      throw QmpError.unexpected(command: "query-memdev", answer: "\(backend)")
    }
    // Without a name it is none of those that were given on the command line.
    let id = backend["id"]?.text ?? ""
    let kind = id.isEmpty ? "unnamed" : try machine.text("type", of: "/objects/\(id)")
    guard kind == "memory-backend-file" else { throw QemuMemoryError.noFile(id: id, kind: kind) }
    guard isShared else { throw QemuMemoryError.notShared(id: id) }
    return File(id: id, path: try machine.text("mem-path", of: "/objects/\(id)"), byteCount: byteCount)
  }

  /// Maps the files. What anybody writes to them is seen here.
  func map() throws -> GuestMemory {
    var start: UInt64 = 0
    var regions: [MemoryRegion] = []
    for file in files {
      let descriptor = try FileDescriptor.open(file.path, for: .readingAndWriting)
      regions.append(try MemoryRegion(file: descriptor, byteCount: file.byteCount, start: GuestAddress(start)))
      start += file.byteCount
    }
    return try GuestMemory(regions: regions)
  }
}

/// Why a guest's memory cannot be moved by anybody but its QEMU.
enum QemuMemoryError: Error, Equatable {
  case none
  case noFile(id: String, kind: String)
  case notShared(id: String)
}

extension QemuMemoryError: CustomStringConvertible {
  private static let advice = """
    start QEMU with -machine …,memory-backend=ram -object \
    memory-backend-file,id=ram,size=SIZE,share=on,mem-path=/dev/shm/NAME
    """

  var description: String {
    switch self {
    case .none: "the guest has no memory in a file: \(Self.advice)"
    case .noFile(let id, let kind):
      "the guest's memory \"\(id)\" is a \(kind), which others cannot open: \(Self.advice)"
    case .notShared(let id): "the guest's memory \"\(id)\" is not shared: \(Self.advice)"
    }
  }
}
