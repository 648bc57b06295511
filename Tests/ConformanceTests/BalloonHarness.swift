import Balloon
import GuestRAM
import Support

extension Harness<BalloonDevice<CountingReclaimer>> {
  /// A balloon with all features, whose queues are inflate, deflate, statistics, free page hinting and reporting.
  static var balloon: Self {
    Harness(testDescription: "balloon", make: makeBalloon) { queue, number, place in
      let room = GuestAddress(place.room)
      switch queue {
      case 0, 1:
        try place.memory.write(UInt32(place.pages / 4096) + UInt32(number % 16), at: room)
        return [.readable(place.room, 4)]
      case 2:
        try place.memory.write(UInt16(number % 16), at: room)
        try place.memory.write(UInt64(number), at: GuestAddress(place.room + 2))
        return [.readable(place.room, 10)]
      case 3:
        try place.memory.write(UInt32(number), at: room)
        return [.readable(place.room, 4)]
      default:
        return [.writable(place.pages + UInt64(number % 16) * 4096, 4096)]
      }
    }
  }

  @Sendable
  private static func makeBalloon() -> BalloonDevice<CountingReclaimer> {
    var options = BalloonOptions()
    options.deflateOnOutOfMemory = true
    return BalloonDevice(options, reclaimer: CountingReclaimer()) { 1_000_000_000_000 }
  }
}

/// Says that everything went back to the host, and takes nothing.
struct CountingReclaimer: PageReclaimer {
  mutating func giveUp(_ range: GuestRange, of memory: GuestMemory) throws(GuestMemoryError) -> UInt64 {
    range.byteCount
  }

  mutating func release(_ range: GuestRange, of memory: GuestMemory) throws(GuestMemoryError) -> UInt64 {
    range.byteCount
  }

  mutating func takeBack(_ range: GuestRange, of memory: GuestMemory) {}

  mutating func reset() {}
}
