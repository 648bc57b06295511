import GuestRAM
import LinuxIO
import Testing

@Suite("GuestRAM: buffers lent to system calls")
struct BufferTests {
  static func buffers(_ pairs: (UInt64, Int)...) -> [GuestBuffer] {
    pairs.map { GuestBuffer(address: GuestAddress($0.0), byteCount: $0.1) }
  }

  @Test("buffers are filled in order, over the borders of regions, and what was stored is marked and no more")
  func fill() throws {
    let log = try DirtyLog(coveringUpTo: GuestAddress(0x20000))
    let memory = try GuestMemory.patched(dirtyLog: log)
    var vectors = IOVectors()
    let buffers = Self.buffers((0x10FF0, 16), (0x1FFE, 4), (0x100, 0), (0x200, 8))
    let bytes = (1...22).map { UInt8($0) }
    let stored = try memory.fill(buffers, using: &vectors) { (vectors) throws(LinuxError) in
      #expect(vectors.totalByteCount == 28)
      #expect(vectors.count >= 4)
      return vectors.storeBytes(bytes)
    }
    #expect(stored == 22)
    #expect(try memory.readBytes(16, at: GuestAddress(0x10FF0)) == Array(bytes[0..<16]))
    #expect(try memory.readBytes(4, at: GuestAddress(0x1FFE)) == Array(bytes[16..<20]))
    #expect(try memory.readBytes(8, at: GuestAddress(0x200)) == [21, 22, 0, 0, 0, 0, 0, 0])
    #expect(log.takeMarks() == [0, 1, 2, 0x10])
    _ = try memory.fill(buffers, using: &vectors) { (vectors) throws(LinuxError) in vectors.storeBytes([1]) }
    #expect(log.takeMarks() == [0x10])
    _ = try memory.fill(buffers, using: &vectors) { (_) throws(LinuxError) in 0 }
    #expect(log.takeMarks() == [])
  }

  @Test("a call that fails may have stored before: all that was lent to it is marked")
  func failedFill() throws {
    let log = try DirtyLog(coveringUpTo: GuestAddress(0x20000))
    let memory = try GuestMemory.patched(dirtyLog: log)
    var vectors = IOVectors()
    let refusal = LinuxError(call: "readv", number: 5)
    #expect(throws: TransferError<LinuxError>.transfer(refusal)) {
      try memory.fill(Self.buffers((0x10FF0, 16), (0x1000, 1)), using: &vectors) { (vectors) throws(LinuxError) in
        _ = vectors.storeBytes([1, 2, 3])
        throw refusal
      }
    }
    #expect(log.takeMarks() == [1, 0x10])
  }

  @Test("buffers are drained in order, and nothing is marked")
  func drain() throws {
    let log = try DirtyLog(coveringUpTo: GuestAddress(0x20000))
    let memory = try GuestMemory.patched(dirtyLog: log)
    try memory.write(bytes: [1, 2, 3, 4, 5, 6], at: GuestAddress(0x1FFD))
    #expect(log.takeMarks() == [1, 2])
    var vectors = IOVectors()
    var drained: [UInt8] = []
    let count = try memory.drain(Self.buffers((0x1FFD, 6), (0x1FFE, 1)), using: &vectors) {
      (vectors) throws(LinuxError) in
      drained = vectors.copyBytes()
      return drained.count
    }
    #expect(count == 7)
    #expect(drained == [1, 2, 3, 4, 5, 6, 2])
    #expect(log.takeMarks() == [])
    let refusal = LinuxError(call: "writev", number: 28)
    #expect(throws: TransferError<LinuxError>.transfer(refusal)) {
      try memory.drain(Self.buffers((0, 1)), using: &vectors) { (_) throws(LinuxError) in throw refusal }
    }
  }

  @Test("a buffer of which a byte is outside is refused before the call is made")
  func outsideBuffers() throws {
    let memory = try GuestMemory.patched()
    var vectors = IOVectors()
    for (address, byteCount) in [(0x2FFF, 2), (0x3000, 1), (UInt64.max, 1), (.max, 2), (0, .max), (0, -1)] {
      let bad = GuestBuffer(address: GuestAddress(address), byteCount: byteCount)
      let good = GuestBuffer(address: GuestAddress(0), byteCount: 1)
      #expect(throws: TransferError<LinuxError>.memory(.outside(bad.range))) {
        try memory.fill([good, bad], using: &vectors) { (_) throws(LinuxError) in
          Issue.record("the call was made")
          return 0
        }
      }
      #expect(throws: TransferError<LinuxError>.memory(.outside(bad.range))) {
        try memory.drain([good, bad], using: &vectors) { (_) throws(LinuxError) in
          Issue.record("the call was made")
          return 0
        }
      }
    }
  }

  @Test("more pieces than one call takes are refused, counted by pieces of host memory and not by buffers")
  func tooMany() throws {
    let memory = try GuestMemory.patched()
    var vectors = IOVectors(capacity: 4)
    let across = GuestBuffer(address: GuestAddress(0x1FFF), byteCount: 2)
    _ = try memory.drain([across, across], using: &vectors) { (vectors) throws(LinuxError) in vectors.count }
    #expect(throws: TransferError<LinuxError>.memory(.tooManyBuffers(most: 4))) {
      try memory.drain([across, across, across], using: &vectors) { (_) throws(LinuxError) in 0 }
    }
    #expect(throws: TransferError<LinuxError>.memory(.tooManyBuffers(most: 4))) {
      try memory.drain(Self.buffers((0, 1), (0, 1), (0, 1), (0x1FFF, 2)), using: &vectors) {
        (_) throws(LinuxError) in 0
      }
    }
  }

  @Test("what was lent is taken back: after the call the list is empty, whatever came of it")
  func takenBack() throws {
    let memory = try GuestMemory.patched()
    var vectors = IOVectors(capacity: 4)
    let good = Self.buffers((0, 8))
    _ = try memory.fill(good, using: &vectors) { (_) throws(LinuxError) in 8 }
    #expect(vectors.count == 0)
    _ = try memory.drain(good, using: &vectors) { (_) throws(LinuxError) in 8 }
    #expect(vectors.count == 0)
    _ = try? memory.drain(good + Self.buffers((0x3000, 8)), using: &vectors) { (_) throws(LinuxError) in 8 }
    #expect(vectors.count == 0)
    _ = try? memory.fill(good, using: &vectors) { (_) throws(LinuxError) in throw LinuxError(call: "readv", number: 5) }
    #expect(vectors.totalByteCount == 0)
  }
}
