import Foundation
import LinuxIO
import Support
import Testing

@testable import Migration

@Suite("Codec: LZ4 blocks") struct LZ4Tests {
  private static let tool = "/usr/bin/lz4"
  private static let lengths = Array(0...70) + [255, 270, 271, 4095, 4096, 4097, 65535, 65536]

  @Test("a block expands to its source, whatever it is and however long", arguments: Content.allCases)
  func roundTrip(_ content: Content) {
    var random = SeededGenerator(for: "LZ4 round trip")
    for length in Self.lengths {
      let source = content.bytes(length, using: &random)
      let block = lz4Block(source)
      #expect(expanded(block, length) == source, "\(length) bytes of \(content)")
      #expect(expanded(block, length + 1) == nil)
      #expect(length == 0 || expanded(block, length - 1) == nil)
    }
  }

  @Test("a block that is compressed already survives another time")
  func twice() {
    var random = SeededGenerator(for: "LZ4 twice")
    let block = lz4Block(Content.text.bytes(65536, using: &random))
    #expect(expanded(lz4Block(block), block.count) == block)
  }

  @Test("what has matches becomes shorter, by as much as is to be had")
  func gain() {
    var random = SeededGenerator(for: "LZ4 gain")
    #expect(lz4Block([UInt8](repeating: 7, count: 4096)).count < 32)
    #expect(lz4Block(Content.text.bytes(4096, using: &random)).count < 2048)
    #expect(lz4Block(Content.periodic.bytes(65536, using: &random)).count < 400)
  }

  @Test("a block is made in exactly the room that it needs, and not in less")
  func exactRoom() {
    var random = SeededGenerator(for: "LZ4 exact room")
    var compressor = LZ4Compressor()
    for content in Content.allCases {
      for length in [0, 1, 13, 40, 300, 4096] {
        let source = content.bytes(length, using: &random)
        let block = lz4Block(source)
        #expect(lz4Block(source, atMost: block.count, &compressor) == block)
        for less in 0..<min(block.count, 40) {
          #expect(lz4Block(source, atMost: block.count - 1 - less, &compressor) == nil)
        }
      }
    }
  }

  @Test("a block depends on its source alone, not on those before")
  func independent() {
    var random = SeededGenerator(for: "LZ4 independence")
    var compressor = LZ4Compressor()
    for _ in 0..<200 {
      let content = Content.allCases[Int.random(in: 0..<Content.allCases.count, using: &random)]
      let source = content.bytes(Int.random(in: 0...5000, using: &random), using: &random)
      #expect(lz4Block(source, atMost: source.count + 64, &compressor) == lz4Block(source))
    }
  }

  @Test("the format's description: tokens, further length bytes, distances, matches that run into themselves")
  func vectors() {
    let vectors: [(block: [UInt8], text: String)] = [
      ([0x00], ""),
      ([0x10, 0x61], "a"),
      ([0x50] + Array("hello".utf8), "hello"),
      ([0xF0, 0x00] + Array("abcdefghijklmno".utf8), "abcdefghijklmno"),
      ([0xF0, 0x01] + Array("abcdefghijklmnop".utf8), "abcdefghijklmnop"),
      ([0x14, 0x61, 0x01, 0x00, 0x50] + Array("bcdef".utf8), "aaaaaaaaabcdef"),
      ([0x30] + Array("abc".utf8) + [0x03, 0x00, 0x50] + Array("vwxyz".utf8), "abcabcavwxyz"),
      ([0x1F, 0x61, 0x01, 0x00, 0x00, 0x50] + Array("vwxyz".utf8), String(repeating: "a", count: 20) + "vwxyz"),
      (
        [0x1F, 0x61, 0x01, 0x00, 0xFF, 0x02, 0x50] + Array("vwxyz".utf8),
        String(repeating: "a", count: 1 + 4 + 15 + 255 + 2) + "vwxyz"
      ),
      ([0x40] + Array("abcd".utf8) + [0x04, 0x00, 0x02, 0x02, 0x00, 0x10, 0x7A], "abcdabcdcdcdcdz"),
    ]
    for (block, text) in vectors {
      #expect(expanded(block, text.utf8.count) == Array(text.utf8), "\(block)")
    }
  }

  @Test("every distance and length of a match expands as byte for byte")
  func matches() {
    for distance in 1...40 {
      for length in 4...40 {
        let start = (0..<distance).map { UInt8($0 &* 3 &+ 1) }
        var block: [UInt8] = [UInt8(min(distance, 15) << 4 | min(length - 4, 15))]
        if distance >= 15 { block.append(UInt8(distance - 15)) }
        block += start + [UInt8(distance), 0]
        if length - 4 >= 15 { block.append(UInt8(length - 4 - 15)) }
        block += [0x00]
        var plain = start
        for _ in 0..<length { plain.append(plain[plain.count - distance]) }
        #expect(expanded(block, plain.count) == plain, "\(length) bytes from \(distance) back")
      }
    }
  }

  @Test("the last five bytes are literals, and no match starts in the last twelve")
  func ending() {
    for length in 0...40 {
      let block = lz4Block([UInt8](repeating: 9, count: length))
      if length < 13 {
        #expect(block.count == 1 + length)
      } else {
        #expect(block.suffix(6) == [0x50, 9, 9, 9, 9, 9])
      }
    }
  }

  @Test("a block that is broken is refused: no literals, no distance, too far back, too long, too short")
  func refused() {
    let broken: [[UInt8]] = [
      [], [0x20, 0x61], [0xF0], [0xF0, 0xFF], [0xF0, 0xFF, 0xFF], [0x10, 0x61, 0x01], [0x10, 0x61, 0x00, 0x00, 0x00],
      [0x10, 0x61, 0x02, 0x00, 0x00], [0x1F, 0x61, 0x01, 0x00], [0x1F, 0x61, 0x01, 0x00, 0xFF],
      [0x10, 0x61, 0x01, 0x00], [0x1F, 0x61, 0x01, 0x00, 0xFF, 0xFF, 0xFF, 0x00, 0x00], [0x60, 1, 2, 3, 4, 5, 6],
      [0x00, 0x01, 0x00, 0x00],
    ]
    for block in broken { #expect(expanded(block, 5) == nil, "\(block)") }
  }

  @Test("no part of a block is a block of the same size, and a changed byte does no harm", arguments: Content.allCases)
  func damaged(_ content: Content) {
    var random = SeededGenerator(for: "LZ4 damage")
    for length in [20, 300] {
      let block = lz4Block(content.bytes(length, using: &random))
      for end in 0..<block.count { #expect(expanded([UInt8](block.prefix(end)), length) == nil) }
      for place in block.indices {
        for bit in 0..<8 {
          var changed = block
          changed[place] ^= 1 << UInt8(bit)
          let result = expanded(changed, length)
          #expect(result == nil || result?.count == length)
        }
      }
    }
  }

  @Test("random bytes expand to the right size or not at all")
  func random() {
    var random = SeededGenerator(for: "LZ4 random blocks")
    for _ in 0..<5000 {
      let block = Content.noise.bytes(Int.random(in: 0...60, using: &random), using: &random)
      let byteCount = Int.random(in: 0...300, using: &random)
      let result = expanded(block, byteCount)
      #expect(result == nil || result?.count == byteCount)
    }
  }

  @Test("lz4 reads our blocks, and we read its", .enabled(if: FileManager.default.isExecutableFile(atPath: tool)))
  func otherImplementation() throws {
    var random = SeededGenerator(for: "LZ4 beside lz4")
    let file = FileManager.default.temporaryDirectory.appendingPathComponent("lz4-\(UUID().uuidString)")
    defer { try? FileManager.default.removeItem(at: file) }
    for content in Content.allCases {
      for length in [1, 12, 13, 14, 100, 4096, 65536] {
        let source = content.bytes(length, using: &random)
        let block = lz4Block(source)
        // The legacy frame: a magic number, then a block after its length.
        try Data([0x02, 0x21, 0x4C, 0x18] + littleEndian(block.count) + block).write(to: file)
        let theirs = try ChildProcess.run(Self.tool, ["-dc", file.path])
        #expect(theirs.end == .exit(0) && theirs.output == source, "\(length) bytes of \(content)")
        try Data(source).write(to: file)
        let packed = try ChildProcess.run(Self.tool, ["-lc", file.path], error: .null)
        #expect(packed.end == .exit(0) && expanded([UInt8](packed.output.dropFirst(8)), length) == source)
      }
    }
  }

  private func littleEndian(_ count: Int) -> [UInt8] {
    (0..<4).map { UInt8(truncatingIfNeeded: count >> (8 * $0)) }
  }
}
