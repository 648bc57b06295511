import Options
import Testing

@testable import balloon_demo

@Suite("Demo options") struct DemoOptionsTests {
  private func options(_ arguments: String...) throws -> DemoOptions? {
    guard case .run(let options) = try DemoOptions.parse(arguments, program: "balloon-demo") else { return nil }
    return options
  }

  @Test("a target is a size, and then no statistics are looked at")
  func size() throws {
    let options = try #require(try options("--target", "256M"))
    #expect(options.targetByteCount == 256 << 20 && options.leastAvailableByteCount == nil)
  }

  @Test("with auto the guest's statistics decide, and it keeps a sixteenth of its memory available")
  func auto() throws {
    let plain = try #require(try options("--target", "auto", "--memory", "1G"))
    #expect(plain.targetByteCount == DemoOptions.leastByteCount && plain.leastAvailableByteCount == 64 << 20)
    let told = try #require(try options("--target", "auto", "--keep-available", "300M"))
    #expect(told.leastAvailableByteCount == 300 << 20)
    let both = try #require(try options("--target", "512M", "--keep-available", "300M"))
    #expect(both.targetByteCount == 512 << 20 && both.leastAvailableByteCount == 300 << 20)
  }

  @Test("what a Linux guest is not asked, and more than a guest has, is refused")
  func refused() {
    for arguments in [["--target", "auto"], ["--keep-available", "64M"]] {
      #expect(throws: OptionError.self) {
        try DemoOptions.parse(arguments + ["--guest", "linux"], program: "balloon-demo")
      }
    }
    #expect(throws: OptionError.self) { try options("--keep-available", "4G") }
    #expect(throws: OptionError.self) { try options("--target", "automatic") }
  }
}
