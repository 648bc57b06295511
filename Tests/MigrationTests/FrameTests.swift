import GuestRAM
import Testing

@testable import Migration

@Suite("Migration: frames") struct FrameTests {
  private let frame = Frame(kind: .state, payload: [1, 2, 3])

  private func error(_ bytes: [UInt8], expecting number: UInt32 = 7) -> MigrationError? {
    outcome { () throws(MigrationError) in _ = try FrameHeader(bytes, expecting: number) }.error
  }

  @Test("the layout of a header stays what it is")
  func golden() {
    let header = frame.header(number: 0x0102_0304)
    #expect(header.prefix(16) == [7, 0, 0, 0, 4, 3, 2, 1, 3, 0, 0, 0, 0, 0, 0, 0])
    #expect(header.count == Frame.headerByteCount)
  }

  @Test("a header that is read back announces the frame")
  func roundTrip() throws {
    let header = try FrameHeader(frame.header(number: 7), expecting: 7)
    #expect(header.kind == .state && header.payloadByteCount == 3 && header.dataByteCount == 0)
    #expect(try header.frame([1, 2, 3]) == frame)
    #expect(outcome { () throws(MigrationError) in try header.frame([1, 2, 4]) }.error == .damagedFrame(.state))
  }

  @Test("every bit of a header counts")
  func everyBit() {
    let whole = frame.header(number: 7)
    for bit in 0..<whole.count * 8 {
      var bytes = whole
      bytes[bit / 8] ^= 1 << UInt8(bit % 8)
      #expect(error(bytes) == .damagedFrame(nil))
    }
  }

  @Test("a frame that is not the next one, of an unknown kind or with unknown flags is named")
  func named() {
    #expect(error(frame.header(number: 6)) == .outOfSequence(.state, number: 6, expected: 7))
    for (index, expected) in [(0, MigrationError.unknownFrame(0x107)), (2, .unknownFlags(0x100, .state))] {
      var bytes = Array(frame.header(number: 7).prefix(24))
      bytes[index + 1] = 1
      var writer = WireWriter()
      writer.append(GuestMemory.digest(of: bytes))
      #expect(error(bytes + writer.bytes) == expected)
    }
    #expect(error([]) == .damagedFrame(nil))
  }

  @Test("texts that are cut short, too long or not UTF-8 are no texts")
  func texts() {
    var writer = WireWriter()
    writer.append("naïve", most: 3)
    #expect(writer.bytes == [2, 0] + "na".utf8)
    for bytes: [UInt8] in [[], [1], [2, 0, 65], [1, 0, 0xFF]] {
      var reader = WireReader(bytes)
      #expect(reader.text(most: 10) == nil)
    }
    var reader = WireReader([3, 0, 65, 66, 67])
    #expect(reader.text(most: 2) == nil)
  }

  @Test("every error says something of its own")
  func descriptions() {
    let range = pages(1, 2)
    let errors: [MigrationError] = [
      .peerGone, .peerStalled, .peerFailed("x"), .refused(source: "a", destination: "b", reason: "c"), .notAMigration,
      .unsupportedVersion(2, newest: 1), .sameRole, .damagedFrame(nil), .damagedFrame(.plan), .unknownFrame(99),
      .unknownFlags(1, .plan), .outOfSequence(.plan, number: 1, expected: 2), .unexpectedFrame(.plan),
      .frameTooLong(.plan, byteCount: 9, most: 8), .malformedFrame(.plan), .noteTooLong("n"),
      .tooManyNotes(65, most: 64), .invalidRegion(range), .tooMuchMemory(byteCount: 2, most: 1),
      .tooMuchState(byteCount: 2, most: 1), .unsuitableMemory, .otherLayout(source: [range], destination: []),
      .zeroCopyUnavailable("z"), .misplacedPages(range.start, pageCount: 1),
      .unplannedPages(range.start), .tooManyPlanned(most: 1), .damagedPages(range), .incomplete,
      .pageDiffers(range.start), .unusable("u"), .memory(.noRegions), .outcomeUnknown("o"),
    ]
    #expect(Set(errors.map(\.description)).count == errors.count)
    #expect(!errors.map(\.description).contains("unknown"))
  }
}
