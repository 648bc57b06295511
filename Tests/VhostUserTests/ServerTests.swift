import Foundation
import LinuxIO
import Testing
import VhostUser

@Suite("VhostUser: server") struct ServerTests {
  private func temporaryPath() -> String {
    FileManager.default.temporaryDirectory.appendingPathComponent("vhost-\(UUID().uuidString.prefix(8))").path
  }

  private func pump(_ loop: EventLoop) throws {
    while try loop.runOnce(within: .zero) > 0 {}
  }

  private func features(of socket: borrowing UnixSocket, _ loop: EventLoop) throws -> Bool {
    try socket.send(words(Wire.getFeatures, 1, 0))
    try pump(loop)
    guard try socket.waitUntilReadable(within: .zero) else { return false }
    return try socket.receive(exactly: 20)?.bytes.words.first == Wire.getFeatures
  }

  @Test("front-ends are served one after another; a second one waits for the first to leave")
  func oneAfterAnother() throws {
    let path = temporaryPath()
    let loop = try EventLoop()
    var ends: [VhostUserError?] = []
    let server = try Server(
      ServedDevice(EchoDevice()), on: UnixListener(path: path), loop: loop
    ) { event in
      if case .session(.ended(let error)) = event { ends.append(error) }
    }
    let second: UnixSocket
    do {
      let first = try UnixSocket.connect(to: path)
      #expect(try features(of: first, loop))
      second = try UnixSocket.connect(to: path)
      #expect(try !features(of: second, loop))
      try first.send(words(Wire.setOwner, 7, 0))
      try pump(loop)
    }
    #expect(ends == [.wrongVersion(request: Wire.setOwner, flags: 7)])
    #expect(try second.receive(exactly: 20, within: .zero)?.bytes.words.first == Wire.getFeatures)
    server.end()
    #expect(ends.count == 2)
    #expect(try second.receive(exactly: 1, within: .zero) == nil)
  }

  @Test("who waits is served only when the requests of the one before are finished, and so is the end")
  func drained() throws {
    let path = temporaryPath()
    let loop = try EventLoop()
    let device = ServedDevice(EchoDevice())
    device.update { $0.isAsynchronous = true }
    let server = try Server(device, on: UnixListener(path: path), loop: loop) { _ in }
    func connect() throws -> Frontend {
      let frontend = try Frontend(connectedTo: path, serving: device, on: loop)
      let driver = try GuestDriver()
      try frontend.negotiate(features: Wire.version1)
      try driver.setUp(frontend)
      try driver.offer([1])
      try driver.kickDevice(frontend)
      return frontend
    }
    let first = try connect()
    #expect(device.update { $0.requests.count } == 1)
    try first.close()
    let second = try UnixSocket.connect(to: path)
    #expect(try !features(of: second, loop))
    try first.finish(1)
    #expect(try second.receive(exactly: 20, within: .zero)?.bytes.words.first == Wire.getFeatures)
    second.shutDown()
    try pump(loop)

    _ = try connect()
    var isDrained = false
    server.end { isDrained = true }
    try pump(loop)
    #expect(!isDrained)
    try first.finish(1)
    #expect(isDrained)
  }

  @Test("an operator's change between two front-ends is there for the next")
  func changesStay() throws {
    let device = ServedDevice(EchoDevice())
    do {
      let first = try Frontend(device)
      try first.negotiate()
      try first.close()
    }
    device.update { $0.config[0] = 99 }
    let second = try Frontend(device)
    try second.negotiate()
    #expect(try second.ask(Wire.getConfig, words(0, 1, 0) + [0]) == words(0, 1, 0) + [99])
  }
}
