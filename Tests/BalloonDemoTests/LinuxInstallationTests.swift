import Testing

@testable import balloon_demo

@Suite("LinuxInstallation") struct LinuxInstallationTests {
  private static let list = """
    kernel/drivers/virtio/virtio_balloon.ko:
    kernel/drivers/scsi/virtio_scsi.ko: kernel/drivers/scsi/scsi_mod.ko kernel/drivers/scsi/scsi_common.ko
    kernel/net/virtio-dash.ko.xz: kernel/a.ko.xz
    """

  @Test("what a module needs is loaded before it, the last that is listed first")
  func order() {
    let modules = KernelModules(dependencyList: Self.list)
    #expect(
      modules.loadingOrder(of: "virtio_scsi") == [
        "kernel/drivers/scsi/scsi_common.ko", "kernel/drivers/scsi/scsi_mod.ko", "kernel/drivers/scsi/virtio_scsi.ko",
      ])
    #expect(modules.loadingOrder(of: "virtio_balloon") == ["kernel/drivers/virtio/virtio_balloon.ko"])
    #expect(modules.loadingOrder(of: "virtio_dash") == ["kernel/a.ko.xz", "kernel/net/virtio-dash.ko.xz"])
    #expect(modules.loadingOrder(of: "virtio") == nil)
    #expect(KernelModules(dependencyList: "").loadingOrder(of: "virtio") == nil)
  }

  @Test("a list of built-in modules, which has no dependencies, is read alike")
  func builtIn() {
    let modules = KernelModules(dependencyList: "kernel/drivers/virtio/virtio.ko\nkernel/fs/ext4/ext4.ko\n")
    #expect(modules.loadingOrder(of: "ext4") == ["kernel/fs/ext4/ext4.ko"])
  }

  @Test("a module's packing shows in its name")
  func compression() {
    #expect(ModuleCompression(path: "a/b.ko") == nil)
    #expect(ModuleCompression(path: "a/b.ko.xz") == .xz)
    #expect(ModuleCompression(path: "a/b.ko.zst") == .zstandard)
    #expect(ModuleCompression(path: "a/b.ko.gz") == .gzip)
  }

  /// A 64-bit program with segments of the given types, as `elf(5)` lays it out.
  private func program(segments: [UInt8], tableOffset: Int = 64) -> [UInt8] {
    var bytes = [UInt8](repeating: 0, count: 64 + 56 * segments.count)
    bytes.replaceSubrange(0..<6, with: [0x7F, 0x45, 0x4C, 0x46, 2, 1])
    for index in 0..<8 { bytes[32 + index] = UInt8(truncatingIfNeeded: tableOffset >> (8 * index)) }
    bytes[54] = 56
    bytes[56] = UInt8(segments.count)
    for (index, type) in segments.enumerated() { bytes[64 + 56 * index] = type }
    return bytes
  }

  @Test("a program is static when no segment names a loader")
  func staticProgram() {
    #expect(ELFProgram.isStatic(program(segments: [1, 1, 4])))
    #expect(!ELFProgram.isStatic(program(segments: [6, 3, 1])))
    #expect(!ELFProgram.isStatic(program(segments: [1, 1, 3])))
  }

  @Test("what is no whole program is not taken for a static one", arguments: [0, 3, 63, 100])
  func truncatedProgram(byteCount: Int) {
    #expect(!ELFProgram.isStatic(Array(program(segments: [1, 1]).prefix(byteCount))))
    #expect(!ELFProgram.isStatic([UInt8](repeating: 0x7F, count: byteCount)))
  }

  @Test("a table of segments outside the file is refused", arguments: [65, 1 << 40, Int.max, -1])
  func tableOutside(offset: Int) {
    #expect(!ELFProgram.isStatic(program(segments: [1], tableOffset: offset)))
  }

  @Test("a path is on the deepest mount above it, and of two at one place on the later one")
  func mounts() {
    let table = MountTable(
      """
      /dev/vda / ext4 rw,relatime 0 0
      tmpfs /dev/shm tmpfs rw,nosuid,noexec,size=65536k 0 0
      tmpfs /mnt/a\\040b tmpfs rw 0 0
      one /tmp tmpfs rw,noexec 0 0
      two /tmp tmpfs rw 0 0
      broken
      """)
    #expect(table.mount(of: "/dev/shm")?.options.contains("noexec") == true)
    #expect(table.mount(of: "/dev/shm/x")?.directory == "/dev/shm")
    #expect(table.mount(of: "/dev/shmx")?.directory == "/")
    #expect(table.mount(of: "/mnt/a b/c")?.directory == "/mnt/a b")
    #expect(table.mount(of: "/tmp/x")?.options == ["rw"])
    #expect(table.mount(of: "relative") == nil)
  }
}
