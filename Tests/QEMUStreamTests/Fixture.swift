import Foundation
import GuestRAM
import QEMUStream

/// Streams of QEMU 7.2 and 10.0 that `EndToEnd/qemu-stream --fixtures` has written.
enum Fixture: String, CaseIterable {
  case q35, microvm
  case parked = "microvm-parked"
  case later = "q35-10"
  /// A file in which each page has its place, of a machine with a disk that a back-end serves and a card that its driver has
  /// told how to choose a queue.
  case mapped = "microvm-10"

  /// Those of one layout, and short.
  static let allCases: [Fixture] = [.q35, .microvm, .parked, .later]
  /// Those in whose rings the same requests wait.
  static let waiting: [Fixture] = [.q35, .microvm, .later]

  var isPCI: Bool { self == .q35 || self == .later }

  /// The machine's type, under which its QEMU knows it.
  var machine: String {
    switch self {
    case .q35: "pc-q35-7.2"
    case .later: "pc-q35-10.0"
    case .microvm, .parked, .mapped: "microvm"
    }
  }

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

  func read() throws -> QEMUStream.WithMemory {
    try QEMUStream.readWithMemory(try bytes, block: self == .mapped ? "ram" : nil)
  }
}

extension QEMUStream {
  func device(_ model: VirtioSection.Model) throws -> VirtioSection {
    guard let device = virtioDevices.first(where: { $0.model == model }) else {
      throw QEMUStreamError.missing(model.rawValue)
    }
    return device
  }
}
