import Foundation
import GuestRAM
import QEMUStream

/// Streams of QEMU 7.2 that `EndToEnd/qemu-stream --fixtures` has written.
enum Fixture: String, CaseIterable {
  case q35, microvm
  case parked = "microvm-parked"

  /// The stream. It is kept in runs: counts of zeros and of bytes that follow, and those bytes.
  var bytes: [UInt8] {
    get throws {
      let url = Bundle.module.url(forResource: rawValue, withExtension: "runs", subdirectory: "Fixtures")
      let runs = [UInt8](try Data(contentsOf: url ?? URL(filePath: "/nowhere")))
      var bytes: [UInt8] = []
      var place = 0
      func count() -> Int {
        defer { place += 4 }
        return (0..<4).reduce(0) { $0 << 8 | Int(runs[place + $1]) }
      }
      while place < runs.count {
        let (zeros, length) = (count(), count())
        bytes += [UInt8](repeating: 0, count: zeros) + runs[place..<place + length]
        place += length
      }
      return bytes
    }
  }

  func read() throws -> QEMUStream.WithMemory { try QEMUStream.readWithMemory(try bytes) }
}

extension QEMUStream {
  func device(_ model: VirtioSection.Model) throws -> VirtioSection {
    guard let device = virtioDevices.first(where: { $0.model == model }) else {
      throw QEMUStreamError.missing(model.rawValue)
    }
    return device
  }
}
