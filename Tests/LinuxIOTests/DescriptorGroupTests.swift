import LinuxIO
import Support
import Testing

@Suite("Descriptor group") struct DescriptorGroupTests {
  /// Counts the signs that a loop gets of a descriptor which nobody drains.
  private final class Watcher {
    private let loop: EventLoop
    private var count = 0

    init(_ descriptor: Int32) throws {
      loop = try EventLoop()
      try loop.watch(descriptor, for: [.readable, .writable, .onChange]) { [unowned self] in count += 1 }
    }

    /// How many signs there were since the last time.
    func signs(within limit: Duration = .zero) throws -> Int {
      count = 0
      if try loop.runOnce(within: limit) > 0 { while try loop.runOnce(within: .zero) > 0 {} }
      return count
    }
  }

  @Test("each change of an eventfd that nobody drains gives a sign")
  func eventfd() throws {
    let eventfd = try Eventfd()
    let watcher = try Watcher(eventfd.descriptor.rawValue)
    _ = try watcher.signs()
    for _ in 0..<3 {
      #expect(try watcher.signs() == 0, "nothing has changed")
      eventfd.signal()
      #expect(try watcher.signs() == 1)
    }
  }

  @Test("each change of a member gives the group's watcher a sign, though nobody drains either")
  func members() throws {
    let first = try Eventfd()
    let second = try Eventfd()
    let group = try DescriptorGroup(first.descriptor.rawValue, nil, second.descriptor.rawValue)
    let watcher = try Watcher(group.descriptor.rawValue)
    _ = try watcher.signs()
    for _ in 0..<3 {
      #expect(try watcher.signs() == 0, "nothing has changed")
      first.signal()
      #expect(try watcher.signs() == 1)
      second.signal()
      #expect(try watcher.signs() == 1)
    }
  }

  @Test("a group in a group passes signs on")
  func nested() throws {
    let eventfd = try Eventfd()
    let inner = try DescriptorGroup(eventfd.descriptor.rawValue)
    let outer = try DescriptorGroup(inner.descriptor.rawValue)
    let watcher = try Watcher(outer.descriptor.rawValue)
    _ = try watcher.signs()
    for _ in 0..<3 {
      eventfd.signal()
      #expect(try watcher.signs() == 1)
    }
  }

  @Test("a timer that runs again and again gives a sign each time, drained or not")
  func timer() throws {
    let timer = try Timer()
    let group = try DescriptorGroup(timer.descriptor.rawValue)
    let watcher = try Watcher(group.descriptor.rawValue)
    _ = try watcher.signs()
    for round in 0..<4 {
      timer.start(after: .milliseconds(1))
      #expect(try watcher.signs(within: patience) == 1)
      if round % 2 == 0 { timer.drain() }
    }
  }

  @Test("a bad descriptor is refused")
  func bad() {
    #expect(throws: LinuxError.self) { _ = try DescriptorGroup(-1) }
  }

  @Test("a group tells of each change of its members, and of each time it is woken")
  func changes() throws {
    let group = try DescriptorGroup()
    let event = try Eventfd()
    try group.add(event.descriptor.rawValue, for: .readable)
    let loop = try EventLoop()
    try loop.watch(group.descriptor.rawValue, for: [.readable, .onChange]) {}
    #expect(try loop.runOnce(within: .zero) == 0)
    for _ in 0..<2 {
      event.signal()
      #expect(try loop.runOnce(within: .zero) == 1)
      #expect(try loop.runOnce(within: .zero) == 0)
      group.wake()
      #expect(try loop.runOnce(within: .zero) == 1)
    }
    event.drain()
    group.calm()
    try group.change(event.descriptor.rawValue, to: .writable)
    #expect(try loop.runOnce(within: .zero) == 1)
  }

  @Test("a group that is calm and whose members are not ready is not readable")
  func level() throws {
    let group = try DescriptorGroup()
    let loop = try EventLoop()
    try loop.watch(group.descriptor.rawValue) {}
    #expect(try loop.runOnce(within: .zero) == 0)
    group.wake()
    #expect(try loop.runOnce(within: .zero) == 1)
    group.calm()
    #expect(try loop.runOnce(within: .zero) == 0)
  }
}
