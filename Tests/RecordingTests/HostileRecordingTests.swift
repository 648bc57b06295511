import DeviceState
import Support
import Testing
import VirtioBlk
import VirtioCore

@testable import Recording

@Suite("Recordings that are not as they were made") struct HostileRecordingTests {
  /// What is wrong with a file; nil when nothing is.
  private static func refusal(of file: [UInt8]) -> RecordingError? {
    do throws(RecordingError) {
      _ = try Recording(file)
      return nil
    } catch {
      return error
    }
  }

  private static func small() throws -> [UInt8] {
    try DiskRecordingTests.recording(SeededGenerator(seed: 3), actCount: 1)
  }

  @Test("a byte that was changed is refused wherever it is")
  func changed() throws {
    var random = SeededGenerator(for: "changed recordings")
    let file = try Self.small()
    for place in file.indices {
      var changed = file
      changed[place] ^= UInt8.random(in: 1...255, using: &random)
      #expect(Self.refusal(of: changed) != nil, "byte \(place)")
    }
  }

  @Test("a file that ends early is cut, and one that goes on has bytes too many; both are told with their place")
  func cutAndExtended() throws {
    let file = try Self.small()
    for length in file.indices.dropFirst() {
      #expect(Self.refusal(of: Array(file.prefix(length))) == .cut(at: length))
    }
    #expect(Self.refusal(of: []) == .notARecording)
    #expect(Self.refusal(of: file + [0]) == .excess(at: file.count, byteCount: 1))
  }

  @Test("a byte put in or taken out is refused")
  func shifted() throws {
    let file = try Self.small()
    for place in file.indices {
      var longer = file
      longer.insert(0x5A, at: place)
      #expect(Self.refusal(of: longer) != nil)
      var shorter = file
      shorter.remove(at: place)
      #expect(Self.refusal(of: shorter) != nil)
    }
  }

  @Test("a record that was taken out or moved is damage at the next")
  func moved() throws {
    let file = try Self.small()
    let frames = try TapeFrames.frames(of: file)
    let bytes = frames.map { Array(file[$0.range.lowerBound - 5..<$0.range.upperBound + 4]) }
    let without = TapeFrames.preamble + bytes[0] + bytes[3...].joined()
    #expect(Self.refusal(of: without) == .damaged(at: TapeFrames.preamble.count + bytes[0].count))
  }

  @Test(
    "anything behind right checksums is played or refused by name, in bounded time and room",
    arguments: [DeviceID.block, .balloon, .network])
  func forged(_ device: DeviceID) throws {
    var random = SeededGenerator(for: "forged recordings")
    let file =
      switch device {
      case .block: try DiskRecordingTests.recording(random, actCount: 6)
      case .balloon: try BalloonRecordingTests.recording(random, actCount: 40)
      case .network: try CardRecordingTests.recording(random, actCount: 40)
      }
    let frames = try TapeFrames.frames(of: file)
    var refusals = 0
    for _ in 0..<400 {
      let victim = Int.random(in: frames.indices, using: &random)
      var forged = TapeFrames.preamble
      var checksum = CRC32C.checksum(forged)
      for (index, frame) in frames.enumerated() {
        var contents = Array(file[frame.range])
        if index == victim { Self.disturb(&contents, &random) }
        TapeFrames.append(frame.kind, contents, &checksum, to: &forged)
      }
      do throws(RecordingError) {
        _ = try Recording(forged).replay()
      } catch {
        refusals += 1
        #expect(!"\(error)".isEmpty)
      }
    }
    #expect(refusals > 30)
  }

  private static func disturb(_ bytes: inout [UInt8], _ random: inout SeededGenerator) {
    for _ in 0..<Int.random(in: 1...3, using: &random) where !bytes.isEmpty {
      let place = Int.random(in: bytes.indices, using: &random)
      switch Int.random(in: 0..<4, using: &random) {
      case 0: bytes[place] = random.once(in: 2) ? 0xFF : UInt8.random(in: 0...255, using: &random)
      case 1: bytes[place] ^= 1 << UInt8.random(in: 0..<8, using: &random)
      case 2: bytes.insert(UInt8.random(in: 0...255, using: &random), at: place)
      default: bytes.remove(at: place)
      }
    }
  }

  @Test("guest memory that a device touches is bounded, however few bytes tell of it")
  func memory() throws {
    let recording = try Recording(try DiskRecordingTests.recording(SeededGenerator(seed: 5), actCount: 20))
    #expect(try recording.replay(memoryLimit: 1 << 20).difference == nil)
    #expect(throws: RecordingError.self) { try recording.replay(memoryLimit: 4096) }
  }

  @Test("a run of zeros without end is refused before anything is allocated for it")
  func endlessZeros() throws {
    let huge: [UInt8] = [0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0x7F]
    #expect(throws: RecordingError.self) {
      var reader = TapeReader(huge + huge, 0..<16)
      var bytes: [UInt8] = []
      try reader.bytes(&bytes)
    }
  }

  @Test("a file with other checksums is mended to what it was, and a cut one to a shorter recording")
  func mended() throws {
    let file = try DiskRecordingTests.recording(SeededGenerator(seed: 3), actCount: 3)
    let frames = try TapeFrames.frames(of: file)
    var changed = file
    for frame in frames { changed[frame.range.upperBound] ^= 1 }
    #expect(Self.refusal(of: changed) != nil)
    #expect(try Recording.mended(changed) == file)
    let shorter = try Recording(try Recording.mended(Array(file.prefix(frames[5].range.lowerBound - 5))))
    #expect(shorter.stepCount == 2)
    #expect(try shorter.replay().difference == nil)
    let crashed = try Recording(try Recording.mended(Array(file.prefix(frames[5].range.upperBound + 4))))
    #expect(crashed.stepCount == 3)
  }

  @Test("bytes of any kind come back as they were")
  func roundTrip() throws {
    var random = SeededGenerator(for: "bytes of recordings")
    for _ in 0..<300 {
      let count = Int.random(in: 0..<200, using: &random)
      let patch = Patch(
        bytes: (0..<count).map { _ in random.once(in: 3) ? UInt8.random(in: 0...255, using: &random) : 0 })
      let written = try TapeWriter.bytes(of: patch)
      #expect(try TapeReader.record(Patch.self, in: written, at: 0..<written.count) == patch)
    }
  }
}
