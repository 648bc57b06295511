public import GuestRAM

/// A guest that runs while it is moved, as the engine sees it. One thread makes all calls.
public protocol LiveGuest: ~Copyable {
  /// The guest's memory; the same for the whole move.
  var memory: GuestMemory { get }
  /// Where the engine notes what it sends, for a guest that finds writes by comparing its memory with that; nil, unless
  /// said otherwise, for one that is told of them.
  var sentPages: SentPages? { get }

  /// From the return on, all that anybody writes to memory is found by `takeWrites`.
  mutating func beginTracking() throws(MigrationError)
  /// What has been written since tracking began or this was asked last: whole 4 KiB pages in rising order, each range
  /// within a region. Too much may be named, nothing too little.
  mutating func takeWrites() throws(MigrationError) -> [GuestRange]
  /// Nothing more is asked about writes, and a guest that runs on here may use the pages again that it has named as
  /// free. It is also called when tracking could not begin.
  mutating func endTracking()

  /// Asks the guest which of its pages are free. It is called once tracking has begun.
  mutating func beginHints()
  /// The pages that the guest has named since this was asked last, in any order: whole 4 KiB pages of its memory.
  ///
  /// What such a page held at some moment after `beginHints` matters to nobody, and it may read as zeros once the guest
  /// runs elsewhere. What is written to it from that moment on matters, and is found by `takeWrites`.
  mutating func takeHints() -> [GuestRange]
  /// No hint is of use any more, those not taken either. The guest goes on not counting on what is in the pages that it
  /// has named: it is told that it may at the destination, or at `endTracking` if it stays.
  mutating func endHints()

  /// Stops the guest and its devices, and returns what they have to be restored from. From the return on nobody writes
  /// memory, until `resume`. That is called after an error too, as the guest may have been stopped in part.
  mutating func pause() throws(MigrationError) -> [UInt8]
  /// What it takes to stop the guest beside sending its last pages, in seconds, as far as that is known; 0 unless said
  /// otherwise. It counts as time that the guest stands still.
  var pauseSeconds: Double { get }
  /// Lets a guest that is paused, or was to be, run on here: it could not be moved, or has been saved. The thread that
  /// calls must not write memory by it: for a guest being saved it would wait for itself.
  mutating func resume()
  /// Lets the guest run for so much of the time only, 1 being all of it, so that it writes less. A guest that could
  /// not be moved gets all of it back.
  mutating func slowDown(to share: Double)
}

extension LiveGuest where Self: ~Copyable {
  public var sentPages: SentPages? { nil }
  public var pauseSeconds: Double { 0 }
  public mutating func beginHints() {}
  public mutating func takeHints() -> [GuestRange] { [] }
  public mutating func endHints() {}
  public mutating func slowDown(to share: Double) {}
}
