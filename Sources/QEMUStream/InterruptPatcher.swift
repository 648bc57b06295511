/// An interrupt as a device sends it with MSI-X: a number written to an address.
struct InterruptMessage: Equatable {
  let address: UInt64
  let data: UInt32
}

/// Has interrupts wait for processors that have not taken them yet, in the state of their local interrupt controllers.
///
/// There is where they are when QEMU itself stops at such a moment. A vector that is only set pending in its device is no way:
/// QEMU looks at those as it loads the device, when it does not know yet which vectors are in use, and drops them.
struct InterruptPatcher {
  /// `CPU_INTERRUPT_POLL`: the processor is to look at its controller.
  private static let poll: UInt64 = 0x10

  private let sections: [StreamSection]
  /// The sections of each processor's controller and of the processor itself.
  private let processors: [(controller: Int, processor: Int)]
  /// The bodies that have changed, by the section's index.
  private(set) var bodies: [Int: [UInt8]] = [:]

  init(_ sections: [StreamSection]) {
    self.sections = sections
    func indices(_ name: String, version: UInt32) -> [Int] {
      sections.indices.filter { sections[$0].name == name && sections[$0].version == version }
    }
    let controllers = indices("apic", version: 3)
    let common = indices("cpu_common", version: 1)
    // QEMU writes both for each processor, in the same order.
    processors = controllers.count == common.count ? Array(zip(controllers, common)) : []
  }

  /// Has a message arrive that a device sends.
  mutating func send(_ message: InterruptMessage, of device: String) throws(QEMUStreamError) {
    let (vector, mode) = (message.data & 0xFF, message.data >> 8 & 7)
    // Fixed or to the lowest priority, and at an edge: what drivers ask for. Messages of other kinds, and those whose
    // address has a bit that makes them remappable or their destination longer, are remapped first.
    guard message.address >> 20 == 0xFEE, message.address & 0xFF0 == 0, vector >= 16, mode <= 1,
      message.data & 0x8000 == 0
    else { throw refusal(message, of: device) }
    let reached = processors.filter { isReached($0.controller, by: message.address) }
    guard !reached.isEmpty else { throw refusal(message, of: device) }
    for place in mode == 1 ? reached.prefix(1) : reached[...] {
      let (word, bit) = (vector / 32, UInt64(1) << UInt64(vector % 32))
      guard change(place.controller, "irr[\(word)]", { $0 | bit }),
        change(place.controller, "tmr[\(word)]", { $0 & ~bit }),
        change(place.processor, "interrupt_request", { $0 | Self.poll })
      else { throw refusal(message, of: device) }
    }
  }

  private func refusal(_ message: InterruptMessage, of device: String) -> QEMUStreamError {
    let (address, data) = (String(message.address, radix: 16), String(message.data, radix: 16))
    return .cannotCarry(
      device: device,
      reason:
        "the driver is to be told by the message 0x\(data) to 0x\(address), which no processor of the template takes")
  }

  /// Whether a message to an address is for a controller: by its number, or by the groups that the guest has put it in.
  private func isReached(_ controller: Int, by address: UInt64) -> Bool {
    let target = address >> 12 & 0xFF
    guard address & 4 != 0 else { return target == 0xFF || number(controller, "id") == target }
    guard let groups = number(controller, "log_dest") else { return false }
    return switch number(controller, "dest_mode") {
    case 0xF: groups & target != 0
    case 0: target == 0xFF || (groups >> 4 == target >> 4 && groups & target & 0xF != 0)
    default: false
    }
  }

  private func range(_ index: Int, _ name: String) -> Range<Int>? {
    let section = sections[index]
    guard let field = section.fields.first(where: { $0.name == name }) else { return nil }
    let start = Int(field.offset - section.bodyOffset)
    return start..<start + field.byteCount
  }

  private func number(_ index: Int, _ name: String) -> UInt64? {
    guard let range = range(index, name), range.count <= 8 else { return nil }
    return (bodies[index] ?? sections[index].body)[range].reduce(0) { $0 << 8 | UInt64($1) }
  }

  /// Gives a field another number; false where it is not there.
  private mutating func change(_ index: Int, _ name: String, _ change: (UInt64) -> UInt64) -> Bool {
    guard let range = range(index, name), let old = number(index, name) else { return false }
    let new = change(old)
    var body = bodies[index] ?? sections[index].body
    for (place, position) in range.enumerated() {
      body[position] = UInt8(truncatingIfNeeded: new >> UInt64(8 * (range.count - 1 - place)))
    }
    bodies[index] = body
    return true
  }
}
