import CLinux
import Glibc
public import LinuxIO

/// Huge pages of memory files, as the kernel has them.
public enum HugePages {
  /// Whether a process may have them without the file system's doing so by itself. Asked of the kernel, not of the library.
  public static var canBeHad: Bool {
    let path = "/sys/kernel/mm/transparent_hugepage/shmem_enabled"
    guard let setting = try? FileDescriptor.open(path).readBytes(upTo: 256) else { return false }
    return KernelVersion.current >= KernelVersion(6, 1) && !String(decoding: setting, as: UTF8.self).contains("[deny]")
  }

  public static var whySkipped: String {
    "SKIPPED: this kernel makes no huge pages of memory files (Linux 6.1, not denied)"
  }
}

extension Mapping {
  /// `makeHugePage` as often as it may take a kernel that is busy.
  public func makeHugePageAtLast(at offset: Int, of file: borrowing FileDescriptor) -> Bool {
    for _ in 0..<100 where makeHugePage(at: offset, of: file) { return true }
    return false
  }

  /// How much of it is mapped in huge pages of a file, in bytes.
  public var hugeByteCount: Int {
    get throws {
      let (start, end) = unsafe (UInt(bitPattern: base), UInt(bitPattern: base) + UInt(byteCount))
      var isInside = false
      var sum = 0
      for line in try Self.maps().split(separator: "\n") {
        let words = line.split(separator: " ", omittingEmptySubsequences: true)
        let ends = words[0].split(separator: "-").map { UInt($0, radix: 16) }
        if ends.count == 2, let first = ends[0], let last = ends[1] { isInside = first < end && last > start }
        if isInside, words[0] == "ShmemPmdMapped:" { sum += (Int(words[1]) ?? 0) << 10 }
      }
      return sum
    }
  }

  private static func maps() throws -> String {
    let file = try FileDescriptor.open("/proc/self/smaps")
    var text: [UInt8] = []
    while case let part = try file.readBytes(upTo: 1 << 16), !part.isEmpty { text += part }
    return String(decoding: text, as: UTF8.self)
  }

  /// Has a pipe hold one of its pages, which is in use as long as nobody has read it.
  public func pageInPipe(at offset: Int) throws(LinuxError) -> FileDescriptor.Pipe {
    let pipe = try FileDescriptor.pipe()
    var page = unsafe iovec(iov_base: base + offset, iov_len: 4096)
    let count = unsafe vmsplice(pipe.writing.rawValue, &page, 1, 0)
    guard count == 4096 else { throw LinuxError(call: "vmsplice", number: errno) }
    return pipe
  }
}
