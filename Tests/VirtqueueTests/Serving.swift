import GuestRAM
import Support
import Virtqueue

/// A chain that was walked to its end, as values that can be compared.
struct Walked: Equatable {
  var head: UInt16
  var buffers: [RingFixture.Buffer]
}

extension Segment {
  var buffer: RingFixture.Buffer {
    RingFixture.Buffer(address: address, byteCount: byteCount, isWritable: isDeviceWritable)
  }
}

/// Walks a chain to its end.
func walk(_ chain: inout DescriptorChain) throws(VirtqueueError) -> Walked {
  var walked = Walked(head: chain.head, buffers: [])
  while let segment = try chain.next() { walked.buffers.append(segment.buffer) }
  return walked
}

extension SplitVirtqueue {
  /// Takes a chain, walks it and gives it back with a length; nil when there is none.
  mutating func serveOne(writing byteCount: UInt32 = 0) throws(VirtqueueError) -> Walked? {
    guard var chain = try next() else { return nil }
    let walked = try walk(&chain)
    chain.didWrite(byteCount)
    complete(chain)
    return walked
  }

  /// Takes the next chain, which there must be.
  mutating func take() throws -> DescriptorChain {
    guard let chain = try next() else { throw NoChain() }
    return chain
  }

  /// `needsNotification`, marked as throwing because `#expect` takes apart only what `try` does not stand before.
  mutating func notifies() throws -> Bool {
    needsNotification()
  }

  /// Serves what there is until `next` says that there is no more, and publishes it.
  mutating func serveTurn() throws(VirtqueueError) -> [UInt16] {
    var heads: [UInt16] = []
    while let walked = try serveOne() { heads.append(walked.head) }
    publish()
    return heads
  }
}

struct NoChain: Error {}

/// The error that the body throws, or nil.
func failure(_ body: () throws(VirtqueueError) -> Void) -> VirtqueueError? {
  do throws(VirtqueueError) {
    try body()
    return nil
  } catch {
    return error
  }
}

/// The error that starting a queue throws, or nil.
func startFailure(
  _ configuration: QueueConfiguration, _ memory: GuestMemory, _ features: RingFeatures = RingFeatures()
) -> VirtqueueError? {
  failure { () throws(VirtqueueError) in
    _ = try SplitVirtqueue(configuration, features: features, memory: memory)
  }
}

/// Takes the next chain of a queue and walks it, for the error that this throws.
func walkFailure(_ fixture: RingFixture, _ features: RingFeatures = RingFeatures()) throws -> VirtqueueError? {
  var queue = try fixture.queue(features)
  return failure { () throws(VirtqueueError) in
    while let walked = try queue.serveOne() { _ = walked }
  }
}

let legalSizes: [UInt16] = (0...15).map { 1 << $0 }
let allRingFeatures: [RingFeatures] = [false, true].flatMap { indirect in
  [false, true].flatMap { eventIndex in
    [false, true].map { RingFeatures(indirectDescriptors: indirect, eventIndex: eventIndex, inOrder: $0) }
  }
}
