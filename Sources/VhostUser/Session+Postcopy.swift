import LinuxIO
import VirtioCore

/// A postcopy migration that this back-end is the destination of.
final class Postcopy {
  /// Whether memory is about to be shared whose pages follow.
  var isListening = false
  /// What the front-end cannot provide pages of yet.
  var arriving: Arriving?

  let provider: PageProvider

  struct Arriving {
    /// Nil when the last region was taken away.
    let table: MemoryTable?
  }

  init(_ provider: PageProvider) {
    self.provider = provider
  }

  deinit {
    provider.end()
  }
}

/// Memory that is used before its pages have come.
///
/// From `POSTCOPY_LISTEN` on nobody provides a page, until the front-end has learned where the memory is mapped here and
/// has acknowledged it. The device rests meanwhile: whoever touched a page would wait for ever, and a page that is touched
/// before it is watched is filled with zeros.
extension Session where Device: ~Copyable {
  /// The memory as the front-end sees it: in use, or about to be.
  var newestTable: MemoryTable? {
    if let arriving = postcopy?.arriving { return arriving.table }
    return table
  }

  /// Hands the front-end the descriptor through which it is going to provide pages.
  func advisePostcopy(_ message: borrowing Message) throws(VhostUserError) {
    try message.checkNoPayload()
    let provider = try system { () throws(LinuxError) in try PageProvider(connection.duplicateDescriptor()) }
    postcopy = Postcopy(provider)
    let copy = try system { () throws(LinuxError) in try provider.descriptor() }
    try connection.send(message.request, flags: .reply, payload: [], descriptors: [copy.rawValue])
  }

  func listenForPostcopy(_ message: borrowing Message) throws(VhostUserError) {
    try message.checkNoPayload()
    guard let postcopy else { throw .postcopyNotAdvised }
    postcopy.isListening = true
    rest()
  }

  /// Notes memory that is not to be touched yet.
  func arrive(_ table: MemoryTable?, at postcopy: Postcopy) -> Outcome {
    postcopy.arriving = Postcopy.Arriving(table: table)
    rest()
    return .done
  }

  /// Whether a message acknowledges that pages of new memory can be provided: it looks like the last about memory, or like
  /// none if nothing has changed, but for its payload.
  func acknowledgesMemory(_ message: borrowing Message) -> Bool {
    guard let postcopy, postcopy.isListening, message.payload.count == 8, message.descriptors.isEmpty else {
      return false
    }
    guard let request = FrontendRequest(rawValue: message.request) else { return message.request == 0 }
    return [.setMemTable, .addMemReg, .remMemReg].contains(request)
  }

  /// Uses the memory that has arrived.
  func useArrivedMemory(_ message: borrowing Message) throws(VhostUserError) {
    let number = try message.number()
    guard number == 0 else { throw .memoryRefused(number) }
    try stopResting()
  }

  /// All pages have come, or are not going to.
  func endPostcopy(_ message: borrowing Message) throws(VhostUserError) {
    try message.checkNoPayload()
    try stopResting()
    postcopy = nil
  }

  private func rest() {
    isResting = true
    device.host.pause()
  }

  private func stopResting() throws(VhostUserError) {
    if let arriving = postcopy?.arriving.take() { try use(arriving.table) }
    isResting = false
    letServe()
  }
}
