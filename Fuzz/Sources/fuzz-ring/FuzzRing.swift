import FuzzInput
import GuestRAM
import Virtqueue

// A driver that writes whatever it likes into the ring and its tables, and a device that takes, walks, gives back, puts
// back and keeps chains in any order.

private let memoryByteCount = 0x4000
private let memory = try? GuestMemory(byteCount: UInt64(memoryByteCount))

func run(_ input: FuzzInput) {
  guard let memory else { preconditionFailure("no memory for the guest") }
  var input = input
  let flags = input.byte()
  let size = UInt16(1) << UInt16(input.byte() % 8)
  let choices = input.bytes(upTo: 32)
  let start = input.integer(UInt16.self)
  let image = input.rest()
  do {
    try memory.write(
      bytes: Array(image.prefix(memoryByteCount)) + [UInt8](repeating: 0, count: max(0, memoryByteCount - image.count)),
      at: GuestAddress(0))
    let configuration = QueueConfiguration(
      size: size, descriptorTable: GuestAddress(0x800), availableRing: GuestAddress(0), usedRing: GuestAddress(0x400),
      nextAvailable: start)
    let features = RingFeatures(
      indirectDescriptors: flags & 1 != 0, eventIndex: flags & 2 != 0, inOrder: flags & 4 != 0)
    // The driver is at least right about where both begin, or nothing would start.
    if flags & 8 != 0 { try memory.publish(start, at: GuestAddress(0x402)) }
    var device = RingDevice(try SplitVirtqueue(configuration, features: features, memory: memory))
    for choice in choices { try device.act(choice, memory) }
  } catch {
    // A broken ring has been named, which is all that is asked.
    _ = "\(error)"
  }
}

struct RingDevice: ~Copyable {
  private var queue: SplitVirtqueue
  private var kept: DescriptorChain?

  init(_ queue: consuming SplitVirtqueue) {
    self.queue = queue
  }

  mutating func act(_ choice: UInt8, _ memory: GuestMemory) throws {
    switch choice & 7 {
    case 0:
      queue.publish()
      _ = queue.needsNotification()
    case 1: _ = try queue.requestKicks()
    case 2: queue.suppressKicks()
    case 3:
      // The driver writes while the device works.
      let address = GuestAddress(UInt64(choice >> 3) * 0x40 + 2)
      try memory.publish(try memory.acquire(at: address) &+ 1, at: address)
    case 4: if kept == nil { kept = try queue.next() }
    case 5: if let chain = kept.take() { queue.complete(chain) }
    default: try serve(choice)
    }
    require(queue.inFlightCount <= queue.size, "no more chains are out than the ring has room for")
  }

  private mutating func serve(_ choice: UInt8) throws {
    guard var chain = try queue.next() else { return }
    let before = queue.inFlightCount
    switch choice >> 3 & 3 {
    case 0: try walk(&chain)
    case 1:
      while try chain.read(UInt32.self) != nil {}
      while try chain.write(UInt16(0xABCD)) {}
    case 2:
      var readable: [GuestBuffer] = []
      var writable: [GuestBuffer] = []
      _ = try chain.read(UInt8.self)
      try chain.collect(readable: &readable, writable: &writable)
      require(readable.count + writable.count <= 65535, "a chain has at most two tables of descriptors")
    default:
      queue.putBack(chain)
      return require(queue.inFlightCount == before - 1, "a chain that is put back is not out")
    }
    queue.complete(chain)
  }

  private func walk(_ chain: inout DescriptorChain) throws {
    var (count, total, hasWritable) = (0, UInt64(0), false)
    while let segment = try chain.next() {
      count += 1
      total += UInt64(segment.byteCount)
      require(segment.isDeviceWritable || !hasWritable, "readable buffers come before writable ones")
      hasWritable = segment.isDeviceWritable
    }
    require(count <= 65535, "a chain has at most two tables of descriptors")
    require(total <= UInt64(UInt32.max), "a chain is shorter than 4 GiB")
    require(try chain.next() == nil, "a chain has one end")
  }
}

#if FUZZ
  @c(LLVMFuzzerTestOneInput)
  public func fuzz(_ start: UnsafePointer<UInt8>?, _ count: Int) -> CInt {
    run(FuzzInput(start, count))
    return 0
  }
#else
  @main enum Program {
    static func main() { replay(run) }
  }
#endif
