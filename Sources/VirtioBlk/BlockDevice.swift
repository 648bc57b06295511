public import DeviceState
import GuestRAM
public import VirtioCore
import Virtqueue

/// The block device (5.2): a disk whose bytes are in a store.
///
/// What the store has at hand is answered at once. What would have to be waited for goes to the workers; when they are
/// done, `wake` of the host answers the driver.
public struct BlockDevice: ~Copyable, VirtioDevice {
  public static var id: DeviceID { .block }
  public static var featureNames: [Int: String] { Feature.blockNames }

  public let options: BlockOptions
  public let store: any BlockStore
  /// What the device has counted since it was made.
  public internal(set) var counters = BlockCounters()
  /// Why a flush has failed, if one has. Every later one fails too: the kernel forgets what it could not write, so
  /// that to flush again and succeed means nothing.
  public internal(set) var flushFailure: StoreError?
  /// Why requests fail that the driver is not to blame for; nil while they do not.
  public internal(set) var trouble: StoreError?

  let workers: BlockWorkers?
  let report: (StoreError) -> Void
  var features: Features = []
  var fields: BlockConfig
  private var lastReported: StoreError?
  /// `writeback` as a driver wrote it before its features were heard of, which is with its first queue.
  var earlyWriteback: UInt8?
  var isExclusive = false
  /// What the workers have, by ticket.
  var pending: [UInt64: PendingRequest] = [:]
  var lastTicket: UInt64 = 0

  /// Room that requests use in turn.
  var buffers = RequestBuffers()
  var data = BlockData()

  /// - Parameters:
  ///   - workers: wait for the store; without them the device's own thread does.
  ///   - report: told why requests fail, once for each new reason.
  public init(
    _ store: any BlockStore, _ options: BlockOptions = BlockOptions(), workers: BlockWorkers? = nil,
    report: @escaping (StoreError) -> Void = { _ in }
  ) {
    self.store = store
    self.options = options
    self.workers = workers
    self.report = report
    offeredFeatures = options.features(store)
    fields = BlockConfig(options, store)
    reset()
  }

  /// As the store was in the beginning: what a driver has agreed to stays offered.
  public let offeredFeatures: Features

  public var queueSizes: [UInt16] {
    [UInt16](repeating: options.queueSize, count: Int(max(1, options.queueCount)))
  }

  /// All 96 bytes, whatever is negotiated.
  public var config: [UInt8] { fields.bytes }

  public mutating func writeConfig(_ bytes: ArraySlice<UInt8>, at offset: Int) {
    let place = bytes.startIndex + (BlockConfig.writebackOffset - offset)
    let isStarted = !features.isEmpty
    guard (isStarted ? features : offeredFeatures).contains(.blockConfigWriteback), bytes.indices.contains(place) else {
      return
    }
    fields.writeback = bytes[place] == 0 ? 0 : 1
    if !isStarted { earlyWriteback = fields.writeback }
  }

  public mutating func start(with features: Features) {
    self.features = features
    // 5.2.5.2: a driver that cannot flush has to begin with what needs no flush.
    fields.writeback = features.contains(.blockFlush) ? 1 : 0
    if let earlyWriteback, features.contains(.blockConfigWriteback) { fields.writeback = earlyWriteback }
  }

  /// Whether a write is on the medium before the driver hears of it (5.2.6.2).
  ///
  /// A driver that could flush and does not take the feature counts on it.
  var isWriteThrough: Bool {
    guard options.flush else { return false }
    if features.contains(.blockConfigWriteback) { return fields.writeback == 0 }
    return !features.contains(.blockFlush)
  }

  public var hasWorkElsewhere: Bool { !pending.isEmpty }

  public mutating func setRunning(_ isRunning: Bool) {
    if isRunning {
      _ = acquire()
    } else {
      release()
    }
  }

  /// Whoever takes the disk over finds everything on the medium.
  private mutating func release() {
    guard isExclusive else { return }
    isExclusive = false
    do throws(StoreError) {
      if !store.isReadOnly { _ = try store.perform(.flush, &data, mayWait: true) }
    } catch {
      flushFailure = flushFailure ?? error
      note(error)
    }
    do throws(StoreError) { try store.setExclusive(false) } catch { note(error) }
  }

  /// Makes sure that the medium is this device's own.
  mutating func acquire() -> Bool {
    guard !isExclusive else { return true }
    do throws(StoreError) {
      try store.setExclusive(true)
      isExclusive = true
      fields.setCapacity(byteCount: store.byteCount)
      return true
    } catch {
      note(error)
      return false
    }
  }

  mutating func note(_ error: StoreError) {
    if lastReported != error { report(error) }
    lastReported = error
    trouble = error
  }

  /// Gives the disk another size, which the driver is told of when this is called through the host's `update`.
  public mutating func resize(toByteCount byteCount: UInt64) throws(StoreError) {
    // Without the image to itself the device would resize it under whoever has it.
    let wasExclusive = isExclusive
    guard acquire() else { throw trouble ?? .inUse }
    defer { if !wasExclusive { release() } }
    try store.resize(toByteCount: byteCount)
    fields.setCapacity(byteCount: store.byteCount)
  }

  public mutating func resetQueue(_ index: Int) {
    forget(pending.filter { $0.value.queue == index }.keys)
  }

  /// What is forgotten changes neither the driver's memory nor the disk from now on (2.4.1, 2.6.1.1).
  private mutating func forget(_ tickets: some Collection<UInt64>) {
    guard !tickets.isEmpty else { return }
    workers?.withdraw(Set(tickets))
    for ticket in tickets { pending[ticket] = nil }
  }

  public mutating func reset() {
    forget(pending.keys)
    release()
    features = []
    fields.writeback = 1
    earlyWriteback = nil
  }
}

/// Saving and going on elsewhere.
extension BlockDevice {
  public var state: BlockState {
    var state = BlockState()
    state.capacitySectors = store.byteCount / 512
    state.writeback = fields.writeback != 0
    state.flushFailed = flushFailure != nil
    state.counters = counters
    return state
  }

  /// The disk's size is looked up again where nobody has it in use here: it may have another since it was opened.
  public func constants() -> [DeviceConstant] {
    // A store that cannot be asked has the size that it had, and says what ails it when it is used.
    if !isExclusive { try? store.refresh() }
    let sizeMax = options.sizeMax.map(UInt64.init) ?? .max
    return [
      DeviceConstant("capacity in sectors", store.byteCount / 512),
      // A driver may write to a disk unless it was told otherwise.
      DeviceConstant("read-only", offeredFeatures.contains(.blockReadOnly) ? 1 : 0),
      DeviceConstant("block size", UInt64(store.limits.blockByteCount), by: [.blockSize]),
      DeviceConstant("bytes of a buffer", sizeMax, .atLeast, by: [.blockSizeMax]),
      DeviceConstant("buffers of a request", UInt64(options.segmentMax), .atLeast, by: [.blockSegmentMax]),
    ]
  }

  public mutating func adopt(_ state: BlockState) throws(StateError) {
    do throws(StoreError) { try store.refresh() } catch { note(error) }
    fields.setCapacity(byteCount: store.byteCount)
    guard state.capacitySectors == store.byteCount / 512 else {
      throw .invalidValue(
        section: BlockState.section, field: "capacitySectors",
        reason: "is \(state.capacitySectors), and the disk here has \(store.byteCount / 512)")
    }
    fields.writeback = state.writeback ? 1 : 0
    // What failed here stays failed, whatever happened elsewhere.
    if state.flushFailed { flushFailure = flushFailure ?? .flushFailedElsewhere }
    counters = state.counters
  }
}
