import Glibc
import Testing

@testable import LinuxIO

@Suite("FileStatus") struct FileStatusTests {
  private static func tellsPages(
    owner: UInt32 = geteuid(), isHugePages: Bool = false, isInMemory: Bool = true
  ) -> Bool {
    FileStatus(
      kind: .regularFile, identity: FileStatus.Identity(device: 1, number: 1), byteCount: 4096,
      allocatedByteCount: 4096, pageByteCount: 4096, ownerID: owner, isHugePages: isHugePages, isInMemory: isInMemory
    ).tellsPages
  }

  @Test("the kernel is believed about the pages of this user's own memory files, and of no others")
  func tellsPages() {
    #expect(Self.tellsPages())
    #expect(!Self.tellsPages(isInMemory: false))
    #expect(!Self.tellsPages(isHugePages: true))
    #expect(!Self.tellsPages(owner: geteuid() &+ 1))
    // Who is seen as the owner of what belongs to somebody unknown here (user_namespaces(7), overflowuid).
    #expect(!Self.tellsPages(owner: 65534))
  }
}
