import Balloon
import Testing

@Suite("Balloon: target") struct BalloonTargetTests {
  private func failure(_ target: UInt64, of memory: UInt64) -> BalloonError? {
    do throws(BalloonError) {
      _ = try BalloonTarget(memoryByteCount: target, of: memory)
      return nil
    } catch {
      return error
    }
  }

  @Test("5.5.4: num_pages is what the guest is to do without, in 4096-byte pages")
  func pageCount() throws {
    #expect(try BalloonTarget(memoryByteCount: 512 << 20, of: 2 << 30).pageCount == 393_216)
    #expect(try BalloonTarget(memoryByteCount: 2 << 30, of: 2 << 30).pageCount == 0)
    #expect(try BalloonTarget(memoryByteCount: 4096, of: 8192).pageCount == 1)
  }

  @Test("5.5.4: what a balloon leaves is the size it was made for")
  func roundTrip() throws {
    let target = try BalloonTarget(memoryByteCount: 512 << 20, of: 2 << 30)
    #expect(target.memoryByteCount(of: 2 << 30) == 512 << 20)
  }

  @Test("5.5.4: a driver may claim more pages than there are; nothing is left then")
  func claims() {
    #expect(BalloonTarget(pageCount: .max).memoryByteCount(of: 2 << 30) == 0)
    #expect(BalloonTarget(pageCount: 1).memoryByteCount(of: 4096) == 0)
    #expect(BalloonTarget(pageCount: 0).memoryByteCount(of: .max) == .max)
  }

  @Test("a target above the memory is refused")
  func above() {
    #expect(failure(3 << 30, of: 2 << 30) == .targetAboveMemory(target: 3 << 30, memory: 2 << 30))
    #expect(failure(.max, of: 0) == .targetAboveMemory(target: .max, memory: 0))
  }

  @Test("a target of less than a page is refused")
  func tooSmall() {
    #expect(failure(0, of: 2 << 30) == .targetTooSmall(target: 0))
    #expect(failure(4095, of: 2 << 30) == .targetTooSmall(target: 4095))
  }

  @Test("a target between pages is refused instead of rounded")
  func between() {
    #expect(failure(5000, of: 2 << 30) == .notWholePages(target: 5000, memory: 2 << 30))
  }

  @Test("5.5.4: num_pages has 32 bits; a larger balloon is refused")
  func tooLarge() {
    let balloon: UInt64 = 4096 << 32
    #expect(failure(4096, of: 4096 + balloon) == .balloonTooLarge(byteCount: balloon))
    #expect(failure(4096, of: balloon) == nil)
  }

  @Test("every error says what was asked for")
  func descriptions() {
    #expect(
      BalloonError.targetAboveMemory(target: 3, memory: 2).description
        == "a target of 3 bytes is above the guest's memory of 2 bytes")
    #expect(BalloonError.targetTooSmall(target: 7).description.contains("7 bytes"))
    #expect(BalloonError.notWholePages(target: 5000, memory: 8192).description.contains("5000"))
    #expect(BalloonError.balloonTooLarge(byteCount: 9).description.contains("9 bytes"))
    #expect(BalloonError.hintingNotNegotiated.description.contains("hint"))
  }
}
