import Foundation
import Testing

@testable import Recording

@Suite("Recordings of real guests") struct GuestRecordingTests {
  private static func fixture(_ name: String) throws -> [UInt8] {
    let place = try #require(Bundle.module.url(forResource: name, withExtension: nil, subdirectory: "Fixtures"))
    return Array(try Data(contentsOf: place))
  }

  @Test(
    "what Linux did to a device gives the same outputs without it",
    arguments: ["uml-blk.rec", "uml-balloon.rec", "uml-net.rec"])
  func linux(_ name: String) throws {
    let recording = try Recording(try Self.fixture(name))
    let result = try recording.replay()
    #expect(result.difference == nil)
    #expect(result.stepCount == recording.stepCount)
    let calls = try (0..<recording.stepCount).map { try recording.call(of: $0).call.kind }
    #expect(calls.filter { $0 == .serve }.count > 10)
  }
}
