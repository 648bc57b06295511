import LinuxIO
import Testing

/// Ranges of several lengths over one mapping, filled with the bytes 0, 1, 2, …
private func withRanges(_ lengths: [Int], _ body: (inout IOVectors) throws -> Void) throws {
  let mapping = try Mapping(anonymous: 4096)
  for index in 0..<4096 { unsafe mapping.base.storeBytes(of: UInt8(index % 251), toByteOffset: index, as: UInt8.self) }
  var vectors = IOVectors(capacity: 8)
  var offset = 0
  for length in lengths {
    #expect(unsafe vectors.append(mapping.base + offset, byteCount: length))
    offset += length
  }
  try body(&vectors)
  withExtendedLifetime(mapping) {}
}

@Suite("IOVectors") struct IOVectorsTests {
  @Test("append counts bytes and refuses what is over the capacity")
  func bounds() throws {
    let mapping = try Mapping(anonymous: 4096)
    var vectors = IOVectors(capacity: 2)
    #expect(unsafe vectors.append(mapping.base, byteCount: 5))
    #expect(unsafe !vectors.append(mapping.base, byteCount: -1))
    #expect(unsafe !vectors.append(mapping.base, byteCount: .max))
    #expect(unsafe vectors.append(mapping.base, byteCount: 0))
    #expect(unsafe !vectors.append(mapping.base, byteCount: 1))
    #expect(vectors.count == 2 && vectors.totalByteCount == 5)
    vectors.removeAll()
    #expect(vectors.count == 0 && vectors.totalByteCount == 0)
    #expect(IOVectors(capacity: 0).capacity == 1 && IOVectors(capacity: .max).capacity == 1024)
  }

  @Test("dropping a prefix leaves exactly the bytes after it", arguments: [0, 1, 3, 4, 9, 10, 11, -1, .max])
  func dropFirst(count: Int) throws {
    try withRanges([3, 0, 1, 6]) { (vectors) in
      vectors.dropFirst(count)
      let expected = Array((0..<10).map(UInt8.init).dropFirst(min(max(count, 0), 10)))
      #expect(vectors.totalByteCount == expected.count)
      #expect(vectors.copyBytes() == expected)
    }
  }

  @Test("bytes are copied in and out across ranges and stop at the end")
  func copies() throws {
    try withRanges([3, 4, 3]) { (vectors) in
      #expect(vectors.copyBytes(at: 2, count: 6) == [2, 3, 4, 5, 6, 7])
      #expect(vectors.copyBytes(at: 8, count: 6) == [8, 9])
      #expect(vectors.copyBytes(at: .max) == [])
      #expect(vectors.storeBytes([100, 101, 102, 103], at: 1) == 4)
      #expect(vectors.storeBytes([110, 111, 112], at: 8) == 2)
      #expect(vectors.copyBytes() == [0, 100, 101, 102, 103, 5, 6, 7, 110, 111])
    }
  }

  @Test("a transfer goes through the ranges in order, at a file offset, and ends with the file")
  func fileTransfers() throws {
    let file = try MemoryFile.create(name: "test", byteCount: 16)
    try withRanges([3, 4, 3]) { (vectors) in
      try file.writeAll(vectors, at: 2)
      #expect(try file.readBytes(upTo: 99, at: 0) == [0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 0, 0, 0, 0])
      #expect(try file.readAll(into: vectors, at: 10) == 6)
      #expect(vectors.copyBytes() == [8, 9, 0, 0, 0, 0, 6, 7, 8, 9])
    }
  }
}
