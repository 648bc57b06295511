import GuestRAM
import Support
import Testing
import VirtioCore

@Suite("Pausing")
struct PauseTests {
  @Test("Kicks of a paused device are served when it is resumed", arguments: [[], [.eventIndex]] as [Features])
  func kicks(features: Features) throws {
    var bench = try DeviceBench(EchoDevice())
    try bench.start(features.union([.version1]))
    bench.host.pause()
    let answer = try bench.send([6])
    #expect(bench.host.kick(0) == false)
    #expect(bench.host.wake() == false)
    #expect(try bench.rings[0].publishedUsedIndex == 0)
    #expect(bench.notifications.take() == [])
    #expect(bench.host.resume() == false)
    #expect(try bench.memory.read(UInt8.self, at: answer) == 6)
    #expect(bench.notifications.take().contains(.queue(0)))
  }

  @Test("A paused device that starts, serves once it is resumed")
  func startWhilePaused() throws {
    var bench = try DeviceBench(EchoDevice())
    bench.host.pause()
    try bench.start()
    try bench.send([1])
    bench.host.kick(0)
    #expect(try bench.rings[0].publishedUsedIndex == 0)
    bench.host.resume()
    #expect(try bench.rings[0].publishedUsedIndex == 1)
  }

  @Test("wake finishes what is in flight in a paused device, takes nothing new, and is silent after that")
  func draining() throws {
    var bench = try DeviceBench(EchoDevice())
    try bench.start()
    for _ in 0..<3 { try bench.send([1], to: 1) }
    bench.host.kick(1)
    bench.host.pause()
    bench.notifications.all = []
    #expect(bench.host.hasChainsInFlight == true)
    bench.host.wake()
    #expect(bench.host.hasChainsInFlight == false)
    #expect(bench.notifications.take() == [.queue(1)])
    let calls = bench.host.device.calls
    bench.host.wake()
    #expect(bench.host.device.calls == calls)
    #expect(try bench.rings[1].publishedUsedIndex == 1)
    bench.host.resume()
    for _ in 0..<2 { bench.host.wake() }
    #expect(try bench.rings[1].publishedUsedIndex == 3)
  }
}
