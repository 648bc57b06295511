import GuestRAM

/// The guest's loads and stores, with the errors of this module.
extension GuestMemory {
  @inline(__always)
  func load<T: GuestInteger>(_: T.Type, at address: GuestAddress) throws(GuestError) -> T {
    do throws(GuestMemoryError) { return try read(T.self, at: address) } catch { throw .memory(error) }
  }

  @inline(__always)
  func store<T: GuestInteger>(_ value: T, at address: GuestAddress) throws(GuestError) {
    do throws(GuestMemoryError) { try write(value, at: address) } catch { throw .memory(error) }
  }

  func load(into bytes: inout [UInt8], at address: GuestAddress) throws(GuestError) {
    do throws(GuestMemoryError) { try read(into: &bytes, at: address) } catch { throw .memory(error) }
  }

  func store(bytes: [UInt8], at address: GuestAddress) throws(GuestError) {
    do throws(GuestMemoryError) { try write(bytes: bytes, at: address) } catch { throw .memory(error) }
  }

  func loadIndex(at address: GuestAddress) throws(GuestError) -> UInt16 {
    do throws(GuestMemoryError) { return try acquire(at: address) } catch { throw .memory(error) }
  }

  func storeIndex(_ index: UInt16, at address: GuestAddress) throws(GuestError) {
    do throws(GuestMemoryError) { try publish(index, at: address) } catch { throw .memory(error) }
  }
}

extension GuestAddress {
  /// An address further on. It may wrap: every access is checked by the memory it goes to.
  @inline(__always)
  static func + (address: GuestAddress, byteCount: UInt64) -> GuestAddress {
    GuestAddress(address.rawValue &+ byteCount)
  }

  /// The first byte of a page.
  @inline(__always)
  init(page: UInt32) {
    self.init(UInt64(page) << GuestPage.shift)
  }
}

/// Pages of 4096 bytes, which is also the unit of balloon page numbers (5.5.6).
enum GuestPage {
  static let shift: UInt64 = 12
  static let byteCount = 4096
}

/// Numbers of 8 bytes that live in guest memory, by name.
struct Cells<Name: RawRepresentable<UInt64>> {
  let memory: GuestMemory
  let base: GuestAddress

  @inline(__always)
  func get(_ name: Name) throws(GuestError) -> UInt64 {
    try memory.load(UInt64.self, at: base + 8 &* name.rawValue)
  }

  @inline(__always)
  func set(_ name: Name, _ value: UInt64) throws(GuestError) {
    try memory.store(value, at: base + 8 &* name.rawValue)
  }

  /// Adds to a number, which wraps: what a damaged memory holds must not stop the guest's host.
  @inline(__always)
  func add(_ amount: UInt64, to name: Name) throws(GuestError) {
    try set(name, try get(name) &+ amount)
  }
}
