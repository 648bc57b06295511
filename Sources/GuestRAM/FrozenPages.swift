import LinuxIO
import Synchronization

/// What a frozen memory and the thread that answers faults share.
final class FrozenPages: Sendable {
  /// Where `takeNext` puts bytes, from address 0 on.
  let stage: GuestMemory
  let memory: GuestMemory
  /// Where pages are that were put aside.
  let aside: GuestMemory
  /// How much is taken at a time.
  let stretchByteCount: Int
  let regions: [FrozenRegion]
  let userfaultfd: Userfaultfd
  let desk: Monitor<FrozenState>
  /// For those who wait for room.
  let forRoom = WakeUp()
  let ending: Eventfd
  private let answering = Mutex<Thread?>(nil)

  init(_ memory: GuestMemory, mostBytesAside: Int) throws(GuestMemoryError) {
    self.memory = memory
    var regions: [FrozenRegion] = []
    for region in memory.regions { regions.append(try FrozenRegion(region)) }
    self.regions = regions
    let largestPage = regions.map(\.region.backingPageByteCount).max() ?? 4096
    let room = max(mostBytesAside, largestPage) / 4096
    desk = Monitor(FrozenState(pageCounts: regions.map { $0.bytes.count / 4096 }, room: room))
    aside = try GuestMemory(regions: [MemoryRegion(anonymous: UInt64(room) * 4096, start: GuestAddress(0))])
    stretchByteCount = max(1 << 20, largestPage)
    stage = try GuestMemory(regions: [
      MemoryRegion(anonymous: UInt64(stretchByteCount), start: GuestAddress(0))
    ])
    userfaultfd = try system { () throws(LinuxError) in try Userfaultfd(.protection, isForSystemCalls: true) }
    ending = try system { () throws(LinuxError) in try Eventfd() }
  }

  /// Protects all of memory. After an error `end` undoes what was done of it.
  func arm() throws(GuestMemoryError) {
    // Somebody has to answer before the first page is protected.
    try system { () throws(LinuxError) in
      try answering.withLock { (thread) throws(LinuxError) in
        thread = try Thread(name: "frozen memory") { [self] in answerFaults() }
      }
    }
    for (index, frozen) in regions.enumerated() {
      try system { () throws(LinuxError) in
        let mapping = frozen.region.mapping
        try userfaultfd.register(mapping, at: frozen.bytes.lowerBound, byteCount: frozen.bytes.count, for: .writes)
        frozen.isRegistered.store(true, ordering: .relaxed)
        mapping.announceDiscards { [weak self] in self?.willDiscard($0, of: index) }
        try protect(index, frozen.bytes)
      }
    }
  }

  /// The moment whose memory is taken. Nobody writes memory during the call.
  func freeze() throws(GuestMemoryError) {
    // Where huge pages lie is asked once: the kernel tells it only of all of the file.
    var backed: [Int: [Range<Int>]] = [:]
    for (index, frozen) in regions.enumerated() where frozen.region.backingPageByteCount > 4096 {
      backed[index] = try system { () throws(LinuxError) in try frozen.backedBytes() }
    }
    try desk.withLock { (state) throws(GuestMemoryError) in
      try state.check()
      state.backed = backed
      for index in regions.indices {
        try system { () throws(LinuxError) in
          var next = 0
          while let run = state.opened[index].run(from: next, upTo: regions[index].bytes.count / 4096) {
            try protect(index, regions[index].bytes(ofPages: run))
            state.opened[index].remove(run)
            next = run.upperBound
          }
        }
      }
      state.phase = .frozen
    }
  }

  /// Everybody writes as before, and nothing more can be taken. Who waits goes on.
  func end() {
    desk.withLock { $0.phase = .over }
    forRoom.wakeAll()
    ending.signal()
    answering.withLock { $0.take() }?.join()
    release()
  }

  /// Lets every write pass.
  func release() {
    for frozen in regions where frozen.isRegistered.exchange(false, ordering: .relaxed) {
      let mapping = frozen.region.mapping
      mapping.announceDiscards(nil)
      // The kernel has no reason to refuse what it has registered, and with the descriptor all protection ends anyway.
      try? userfaultfd.unregister(mapping, at: frozen.bytes.lowerBound, byteCount: frozen.bytes.count)
    }
  }

  /// How many pages have been put aside so far because somebody wrote or discarded them.
  var asideCount: Int { desk.withLock { $0.asideCount } }

  func protect(_ index: Int, _ bytes: Range<Int>, _ isProtected: Bool = true) throws(LinuxError) {
    try userfaultfd.setProtected(
      isProtected, regions[index].region.mapping, at: bytes.lowerBound, byteCount: bytes.count)
  }
}
