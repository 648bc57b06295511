import Foundation
import LinuxIO
import Testing
import VirtioNet

@Suite("Ports that cannot be opened") struct PortErrorTests {
  @Test("a network interface that is not there is named, with where to look for those that are")
  func noInterface() {
    let error = portFailure { () throws(PortError) in _ = try PacketSocketPort(interface: "not-there") }
    #expect(error == .noInterface("not-there"))
    #expect(error?.description.contains("\"ip link\"") == true)
  }

  @Test("an address where somebody listens, or a file is, is taken; who has it keeps it")
  func taken() throws {
    let path = FileManager.default.temporaryDirectory.appendingPathComponent("port-\(UUID().uuidString.prefix(8))").path
    let first = try StreamPort(listeningOn: .unix(path: path))
    for path in [path, #filePath] {
      let address = try SocketAddress.unix(path: path)
      let error = portFailure { () throws(PortError) in _ = try StreamPort(listeningOn: address) }
      #expect(error == .taken(path))
      #expect(error?.description.contains("take another") == true)
    }
    #expect(first.failure == nil)
    #expect(FileManager.default.fileExists(atPath: path))
  }
}
