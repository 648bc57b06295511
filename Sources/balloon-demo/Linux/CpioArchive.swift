/// Files for an initial RAM disk, in the `newc` form of cpio that a Linux kernel unpacks at start.
struct CpioArchive {
  private static let magic = "070701"
  private static let trailerName = "TRAILER!!!"
  /// Each entry's header, name and content start at a multiple of this.
  private static let alignment = 4

  private static let directoryMode: UInt32 = 0o040_755
  private static let fileMode: UInt32 = 0o100_644
  private static let programMode: UInt32 = 0o100_755

  private var body: [UInt8] = []
  private var entryCount: UInt32 = 0

  /// Adds a directory; one comes before what is in it.
  mutating func addDirectory(_ path: String) {
    append(path, mode: Self.directoryMode, content: [], linkCount: 2)
  }

  /// Adds a file that belongs to root and is less than 4 GiB long.
  mutating func addFile(_ path: String, _ content: [UInt8], isProgram: Bool = false) {
    append(path, mode: isProgram ? Self.programMode : Self.fileMode, content: content, linkCount: 1)
  }

  /// The archive with all that has been added. Nothing in it depends on the time or the machine.
  var bytes: [UInt8] {
    var finished = self
    finished.append(Self.trailerName, mode: 0, content: [], linkCount: 1)
    return finished.body
  }

  private mutating func append(_ name: String, mode: UInt32, content: [UInt8], linkCount: UInt32) {
    precondition(content.count <= UInt32.max, "a cpio entry has a length of 32 bits")
    entryCount += 1
    let nameBytes = Array(name.utf8) + [0]
    let (inode, user, group, time, device, check): (UInt32, UInt32, UInt32, UInt32, UInt32, UInt32) =
      (entryCount, 0, 0, 0, 0, 0)
    let fields = [
      inode, mode, user, group, linkCount, time, UInt32(content.count), device, device, device, device,
      UInt32(nameBytes.count), check,
    ]
    body += Array(Self.magic.utf8)
    for field in fields { body += Self.hexadecimal(field) }
    body += nameBytes
    pad()
    body += content
    pad()
  }

  private mutating func pad() {
    while !body.count.isMultiple(of: Self.alignment) { body.append(0) }
  }

  /// Eight digits.
  private static func hexadecimal(_ value: UInt32) -> [UInt8] {
    let digits = Array("0123456789abcdef".utf8)
    return stride(from: 28, through: 0, by: -4).map { digits[Int(value >> UInt32($0) & 0xF)] }
  }
}
