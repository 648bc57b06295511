/// Tables of an image that are kept in memory, by their offset in the file; those not used for long make room.
///
/// What is kept is what the file holds: a change is written first and then made here.
struct TableCache<Element: Sendable>: Sendable {
  private struct Slot: Sendable {
    var offset: UInt64
    var entries: [Element]
    var isRecent = true
  }

  private let capacity: Int
  private var slots: [Slot] = []
  private var places: [UInt64: Int] = [:]
  private var hand = 0

  /// - Parameter capacity: how many tables are kept; at least one.
  init(capacity: Int) {
    self.capacity = max(1, capacity)
  }

  /// Where a table is kept, good until the next is added or one is removed.
  mutating func find(_ offset: UInt64) -> Int? {
    guard let slot = places[offset] else { return nil }
    slots[slot].isRecent = true
    return slot
  }

  subscript(slot: Int) -> [Element] {
    _read { yield slots[slot].entries }
    _modify { yield &slots[slot].entries }
  }

  mutating func add(_ offset: UInt64, _ entries: [Element]) -> Int {
    if let slot = places[offset] {
      slots[slot] = Slot(offset: offset, entries: entries)
      return slot
    }
    guard slots.count >= capacity else {
      slots.append(Slot(offset: offset, entries: entries))
      places[offset] = slots.count - 1
      return slots.count - 1
    }
    let slot = leastRecent()
    places[slots[slot].offset] = nil
    places[offset] = slot
    slots[slot] = Slot(offset: offset, entries: entries)
    return slot
  }

  mutating func remove(_ offset: UInt64) {
    guard let slot = places.removeValue(forKey: offset) else { return }
    let last = slots.count - 1
    if slot != last {
      slots[slot] = slots[last]
      places[slots[slot].offset] = slot
    }
    slots.removeLast()
  }

  /// The next slot round that was not used since the hand passed it last.
  private mutating func leastRecent() -> Int {
    while true {
      hand = (hand + 1) % slots.count
      guard slots[hand].isRecent else { return hand }
      slots[hand].isRecent = false
    }
  }
}
