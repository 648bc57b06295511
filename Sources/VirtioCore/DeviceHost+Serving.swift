import GuestRAM
import Virtqueue

/// Serving queues, and telling the driver.
extension DeviceHost where Device: ~Copyable {
  /// How often one call goes round the queues of a driver that never pauses before it lets the thread go on.
  private static var mostRounds: Int { 8 }

  /// The driver made buffers available: serves the queue, publishes, and tells the driver if it wants to be told.
  ///
  /// - Returns: whether buffers wait that no kick will come for, since the driver never paused: call again soon.
  @discardableResult
  public mutating func kick(_ index: Int) -> Bool {
    guard isServed(index), let slot = queues.slots[index] else { return false }
    slot.queue.suppressKicks()
    slot.isWaiting = true
    return serveWaiting()
  }

  /// A backend, a timer or the operator has news for the model.
  ///
  /// - Returns: whether more buffers wait; see `kick`.
  @discardableResult
  public mutating func wake() -> Bool {
    guard isServing else { return false }
    do throws(VirtqueueError) {
      try device.wake(&queues)
    } catch {
      fail(error, queue: nil)
      return false
    }
    settleAll()
    return serveWaiting()
  }

  /// Leaves queues unserved until `resume`; kicks in between are not lost.
  public mutating func pause() {
    isPaused = true
  }

  /// Serves again, at first whatever came in the meantime.
  ///
  /// - Returns: whether more buffers wait; see `kick`.
  @discardableResult
  public mutating func resume() -> Bool {
    isPaused = false
    for index in 0..<queueCount { queues.slots[index]?.isWaiting = true }
    return serveWaiting()
  }

  private var isServing: Bool {
    isStarted && !isPaused && failure == nil && queues.attached != nil
  }

  private func isServed(_ index: Int) -> Bool {
    isServing && queues.isRunning(index) && areEnabled[index]
  }

  private mutating func serveWaiting() -> Bool {
    for _ in 0..<Self.mostRounds {
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
    }
    return isServing
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
      guard let slot = queues.slots[index], slot.isTouched, isServed(index) else { continue }
      settle(index, slot)
    }
  }

  mutating func settle(_ index: Int, _ slot: QueueSet.Slot) {
    slot.isTouched = false
    slot.queue.publish()
    if slot.queue.needsNotification() { notify(.queue(index)) }
    do throws(VirtqueueError) {
      if try slot.queue.requestKicks() { slot.isWaiting = true }
    } catch {
      fail(error, queue: index)
    }
  }

  /// The driver broke a rule that the device cannot go on after: 2.1.2 asks for the status bit and for a configuration
  /// change notification.
  private mutating func fail(_ error: VirtqueueError, queue: Int?) {
    guard failure == nil else { return }
    failure = error
    status.insert(.needsReset)
    notify(.broken(queue: queue, error))
    notify(.configuration)
  }
}
