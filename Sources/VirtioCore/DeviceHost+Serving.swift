import GuestRAM
import Virtqueue

/// Serving queues, and telling the driver.
extension DeviceHost where Device: ~Copyable {
  /// How often one call goes round the queues of a driver that never pauses before it lets the thread go on.
  private static var mostRounds: Int { 8 }

  /// How many calls that end early are worth a whole round.
  private static var interludesOfRound: Int { 16 }

  /// The driver made buffers available: serves the queue, publishes, and tells the driver if it wants to be told.
  ///
  /// - Returns: whether buffers wait that no kick will come for, since the driver never paused: call again soon.
  @discardableResult
  public mutating func kick(_ index: Int) -> Bool {
    if isRunning(index), let slot = queues.slots[index] {
      if isServed(index) { slot.queue.suppressKicks() }
      slot.isWaiting = true
    }
    return serveWaiting()
  }

  /// A backend, a timer or the operator has news for the model, which may change its configuration space.
  ///
  /// - Returns: whether more buffers wait; see `kick`.
  @discardableResult
  public mutating func wake() -> Bool {
    guard isServing || isDraining else {
      // Backends tell only once.
      hasMissedNews = isPaused
      return false
    }
    let config = device.config
    do throws(VirtqueueError) {
      try device.wake(&queues)
    } catch {
      fail(error, queue: nil)
    }
    noticeConfigChange(since: config)
    settleAll()
    return serveWaiting()
  }

  /// Looks for buffers that the driver made available, without having been told, and serves their queues; and for news
  /// of the model's backends.
  ///
  /// - Returns: whether there were any.
  public mutating func poll() -> Bool {
    guard isServing else { return false }
    var hasWork = pollModel()
    for index in 0..<queueCount where isServed(index) {
      guard let slot = queues.slots[index] else { continue }
      if !slot.isWaiting { look(at: index, slot, asksForKicks: false) }
      hasWork = hasWork || slot.isWaiting
    }
    if hasWork { serveWaiting() }
    return hasWork
  }

  private mutating func pollModel() -> Bool {
    let config = device.config
    defer { noticeConfigChange(since: config) }
    do throws(VirtqueueError) {
      guard try device.poll(&queues) else { return false }
    } catch {
      fail(error, queue: nil)
    }
    settleAll()
    return true
  }

  /// Ends polling: asks for kicks wherever that was left out, and serves what came before it was done.
  ///
  /// - Returns: whether more buffers wait; see `kick`.
  public mutating func rest() -> Bool {
    isPolled = false
    for index in 0..<queueCount {
      guard let slot = queues.slots[index], slot.lacksKicks, !isBroken else { continue }
      look(at: index, slot, asksForKicks: true)
    }
    return serveWaiting()
  }

  /// Leaves queues unserved until `resume`; kicks in between are not lost.
  ///
  /// While chains are in flight `wake` still reaches the model, which finishes them and takes no more.
  public mutating func pause() {
    queues.isPaused = true
    sendHeldNotifications()
  }

  /// Whether chains were taken and not given back.
  public var hasChainsInFlight: Bool {
    queues.slots.contains { slot in slot.map { $0.inFlightCount != 0 } ?? false }
  }

  /// Serves again, at first whatever came in the meantime: buffers, and news of the model's backends.
  ///
  /// - Returns: whether more buffers wait; see `kick`.
  @discardableResult
  public mutating func resume() -> Bool {
    queues.isPaused = false
    if hasRunningQueues { takeBackends() }
    for slot in queues.slots { slot?.isWaiting = true }
    let hasMore = serveWaiting()
    guard hasMissedNews else { return hasMore }
    hasMissedNews = false
    return wake() || hasMore
  }

  private var isLive: Bool {
    isStarted && !isBroken && queues.attached != nil
  }

  private var isServing: Bool { isLive && !isPaused }

  /// Requests end that were begun before the device was paused, or broken by its driver.
  private var isDraining: Bool {
    isStarted && queues.attached != nil && (isBroken ? device.hasWorkElsewhere : isPaused && hasChainsInFlight)
  }

  /// Whether no request is under way. What a broken device has taken it never gives back, save what is at work elsewhere.
  public var isQuiet: Bool {
    (!hasChainsInFlight || isBroken) && !device.hasWorkElsewhere
  }

  func isServed(_ index: Int) -> Bool {
    isServing && queues.isRunning(index)
  }

  @discardableResult
  mutating func serveWaiting() -> Bool {
    let config = device.config
    defer { noticeConfigChange(since: config) }
    queues.isTurnOver = false
    var effort = 0
    while effort < Self.mostRounds * Self.interludesOfRound, !queues.isTurnOver {
      queues.isInterlude = false
      var isIdle = true
      for index in 0..<queueCount {
        guard let slot = queues.slots[index], slot.isWaiting, isServed(index) else { continue }
        isIdle = false
        slot.isWaiting = false
        slot.isTouched = true
        serve(index)
      }
      if isIdle { return false }
      settleAll()
      effort += queues.isInterlude ? 1 : Self.interludesOfRound
    }
    return (0..<queueCount).contains { isServed($0) && queues.slots[$0]?.isWaiting == true }
  }

  private mutating func serve(_ index: Int) {
    do throws(VirtqueueError) {
      try device.serve(index, of: &queues)
    } catch {
      fail(error, queue: index)
    }
  }

  /// Closes a call of the model: on each queue that it may have used, publishes, asks for kicks, notifies.
  private mutating func settleAll() {
    for index in 0..<queueCount {
      guard let slot = queues.slots[index] else { continue }
      if slot.isTouched {
        settle(index, slot)
        continue
      }
      // The model may have other limits now, or have begun to wait for buffers.
      if slot.heldSince != nil { tell(index, slot) }
      if slot.lacksKicks, !slot.isWaiting, !isPolled, isServed(index) { look(at: index, slot, asksForKicks: true) }
    }
  }

  private mutating func settle(_ index: Int, _ slot: QueueSet.Slot) {
    slot.isTouched = false
    slot.queue.publish()
    tell(index, slot)
    guard !isBroken else { return }
    slot.lacksKicks = true
    // A queue that is going to be served again is looked at then.
    if !slot.isWaiting { look(at: index, slot, asksForKicks: !isPolled) }
  }

  /// Notes whether buffers have come, and asks for a kick with the next if nobody will look again. Buffers that the model does
  /// not wait for are left to it, and lack kicks until it does.
  private mutating func look(at index: Int, _ slot: QueueSet.Slot, asksForKicks: Bool) {
    guard device.awaitsBuffers(of: index) else { return slot.queue.suppressKicks() }
    do throws(VirtqueueError) {
      let hasCome = asksForKicks ? try slot.queue.requestKicks() : try slot.queue.seesBuffers()
      if asksForKicks { slot.lacksKicks = false }
      if hasCome { slot.isWaiting = true }
    } catch {
      fail(error, queue: index)
    }
  }

  /// The driver broke a rule that the device cannot go on after: 2.1.2 asks for the status bit and for a configuration
  /// change notification.
  mutating func fail(_ error: VirtqueueError, queue: Int?) {
    guard !isBroken else { return }
    failure = error
    status.insert(.needsReset)
    notify(.broken(queue: queue, error))
    notify(.configuration)
  }
}
