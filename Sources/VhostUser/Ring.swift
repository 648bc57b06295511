import GuestRAM
import LinuxIO
import VirtioCore
import Virtqueue

/// What a front-end has said of one virtqueue.
final class Ring {
  let index: Int
  var size: UInt16?
  /// In addresses of the front-end's own process, for the memory table may change.
  var addresses: VringAddresses?
  /// The available index to start from.
  var nextAvailable: UInt16 = 0
  /// Where its driver's last turn ended, until it is opened again: whoever starts elsewhere is another driver.
  var restingBase: UInt16?
  /// Whether the device may serve it; kept while the ring is stopped.
  var isEnabled = false
  /// Whether it was kicked and not stopped since; a kick may come before everything is known of the ring.
  var isStarted = false

  /// Where to keep which of its chains are in flight, if anywhere.
  var inflight: InflightArea?

  private(set) var kick: NotificationDescriptor?
  private var kickWatch: EventLoop.Registration?
  private var call: NotificationDescriptor?
  private var error: NotificationDescriptor?

  init(index: Int) {
    self.index = index
  }

  /// Whether size and place are known.
  var isComplete: Bool { size != nil && addresses != nil }

  /// Whether a driver has set it up, and its front-end has not stopped it since.
  var isInUse: Bool { isComplete && restingBase == nil }

  /// Forgets where the ring is and how far it has come, but not how its front-end is reached.
  ///
  /// What is noted as in flight is forgotten too, for the chains of a driver that is gone concern nobody.
  func forgetPlace() throws(VhostUserError) {
    size = nil
    addresses = nil
    nextAvailable = 0
    restingBase = nil
    isStarted = false
    do throws(VirtqueueError) { try inflight?.erase() } catch { throw .host(.virtqueue(error)) }
  }

  /// Takes over the descriptor on which kicks arrive, in place of the one before.
  func setKick(
    _ descriptor: consuming NotificationDescriptor?, on loop: EventLoop, _ handler: @escaping () -> Void
  ) throws(LinuxError) {
    removeKick(from: loop)
    guard let descriptor else { return }
    kickWatch = try loop.watch(descriptor.descriptor.rawValue, handler)
    kick = consume descriptor
  }

  /// Stops listening for kicks.
  func removeKick(from loop: EventLoop) {
    if let kickWatch { loop.cancel(kickWatch) }
    kickWatch = nil
    kick = nil
  }

  /// Closes all descriptors.
  func removeDescriptors(from loop: EventLoop) {
    removeKick(from: loop)
    call = nil
    error = nil
  }

  /// Stops listening for kicks when the front-end has closed its end, and forgets what it has signalled.
  func drainKick(on loop: EventLoop) throws(LinuxError) {
    guard let isOpen = try kick?.drain(), !isOpen else { return }
    if let kickWatch { loop.cancel(kickWatch) }
    kickWatch = nil
  }

  func setCall(_ descriptor: consuming NotificationDescriptor?) {
    call = descriptor
  }

  func setError(_ descriptor: consuming NotificationDescriptor?) {
    error = descriptor
  }

  /// Tells the front-end of used buffers.
  /// - Returns: false when there is no descriptor to do it with.
  func signalCall() throws(LinuxError) -> Bool {
    guard call != nil else { return false }
    try call?.signal()
    return true
  }

  /// Tells the front-end, if it wants to know, that the ring is broken.
  func signalError() throws(LinuxError) {
    try error?.signal()
  }

  /// Where the ring is in guest memory; nil while something is missing.
  func configuration(in table: MemoryTable) throws(VhostUserError) -> QueueConfiguration? {
    guard let size, let addresses else { return nil }
    return QueueConfiguration(
      size: size, descriptorTable: try table.guestAddress(of: addresses.descriptorTable),
      availableRing: try table.guestAddress(of: addresses.availableRing),
      usedRing: try table.guestAddress(of: addresses.usedRing), nextAvailable: nextAvailable,
      usedRingMark: addresses.isLogged ? GuestAddress(addresses.log) : nil, isUsedRingMarked: addresses.isLogged,
      inflight: hasTooSmallArea ? nil : inflight)
  }

  /// Whether the driver has made the ring longer than the front-end thought. QEMU lets it: the SeaBIOS of QEMU 10 asks for 256
  /// descriptors where a disk offers 128.
  var hasTooSmallArea: Bool {
    guard let inflight, let size else { return false }
    return inflight.entryCount < size
  }

  /// Whether the front-end has said where the ring is, and shares that memory.
  func isPlaced(in table: MemoryTable?) -> Bool {
    guard let table, let addresses else { return false }
    return table.contains(addresses)
  }
}
