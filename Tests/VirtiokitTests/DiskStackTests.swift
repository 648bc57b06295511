import Foundation
import LinuxIO
import Options
import Testing
import VirtioBlk

@testable import virtiokit

@Suite("virtiokit: a disk's images") struct DiskStackTests {
  let directory: URL

  init() throws {
    directory = FileManager.default.temporaryDirectory.appendingPathComponent("images-\(UUID().uuidString.prefix(8))")
    try FileManager.default.createDirectory(at: directory, withIntermediateDirectories: true)
  }

  private func path(_ name: String) -> String { directory.appendingPathComponent(name).path }

  private func makeRaw(_ name: String, byteCount: Int = 1 << 20) throws -> String {
    try Data(count: byteCount).write(to: directory.appendingPathComponent(name))
    return path(name)
  }

  /// What is said of a disk that cannot be served; nil when it can.
  private func complaint(_ change: (inout BlkCommand) -> Void) -> CommandError? {
    var command = BlkCommand()
    change(&command)
    do {
      _ = try DiskStack(command)
      return nil
    } catch {
      return error as? CommandError
    }
  }

  @Test("an overlay goes on with the image that it was made for, by whatever path")
  func overlayAgain() throws {
    defer { try? FileManager.default.removeItem(at: directory) }
    let image = try makeRaw("base.img")
    try FileManager.default.createSymbolicLink(atPath: path("link.img"), withDestinationPath: image)
    for name in [image, path("link.img")] {
      let complaint = complaint {
        $0.image = name
        $0.overlay = path("mine.qcow2")
      }
      #expect(complaint == nil)
    }
  }

  @Test("an overlay of another image, or of none, is not served as if it were of this one", arguments: [true, false])
  func overlayOfAnother(hasBacking: Bool) throws {
    defer { try? FileManager.default.removeItem(at: directory) }
    let (first, second, overlay) = (try makeRaw("first.img"), try makeRaw("second.img"), path("mine.qcow2"))
    if hasBacking {
      try Qcow2Store.create(path: overlay, backing: Qcow2BackingFile(path: first, format: .raw))
    } else {
      try Qcow2Store.create(path: overlay, byteCount: 1 << 20)
    }
    let complaint = complaint {
      $0.image = second
      $0.overlay = overlay
    }
    #expect(complaint == .overlayOfAnother(overlay, standsOn: hasBacking ? first : nil, image: second))
  }

  @Test("a qcow2 image is not taken for a raw one, under an overlay either", arguments: [true, false])
  func unsaidFormat(hasOverlay: Bool) throws {
    defer { try? FileManager.default.removeItem(at: directory) }
    try Qcow2Store.create(path: path("base.qcow2"), byteCount: 1 << 20)
    let complaint = complaint {
      $0.image = path("base.qcow2")
      $0.overlay = hasOverlay ? path("mine.qcow2") : nil
    }
    #expect(complaint == .looksLikeQcow2(path("base.qcow2")))
    #expect(!FileManager.default.fileExists(atPath: path("mine.qcow2")))
  }

  @Test("a named pipe is no image, and nobody waits for its other end", arguments: [nil] + ImageFormat.allCases)
  func namedPipe(format: ImageFormat?) throws {
    defer { try? FileManager.default.removeItem(at: directory) }
    try #require(ChildProcess.run("/bin/sh", ["-c", "mkfifo '\(path("pipe"))'"]).end == .exit(0))
    for isReadOnly in [true, false] {
      let complaint = complaint {
        $0.image = path("pipe")
        $0.format = format
        $0.isReadOnly = isReadOnly
      }
      #expect(complaint != nil)
    }
  }

  @Test("what is wrong with an image is said with its path")
  func named() throws {
    defer { try? FileManager.default.removeItem(at: directory) }
    let odd = try makeRaw("odd.img", byteCount: 1000)
    #expect(complaint { $0.image = odd } == .image(odd, .illegalSize(1000)))
    let notQcow2 = complaint {
      $0.image = odd
      $0.format = .qcow2
    }
    #expect(notQcow2?.description.hasPrefix("\(odd): ") == true)
    #expect(complaint { $0.image = directory.path }?.description.contains(directory.path) == true)
    let missing = complaint { $0.image = path("none.img") }?.description
    #expect(missing?.hasPrefix("open(\(path("none.img"))): ") == true)
  }
}
