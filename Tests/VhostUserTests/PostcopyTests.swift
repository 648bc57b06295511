import Glibc
import GuestRAM
import LinuxIO
import Synchronization
import Testing
import VhostUser

@Suite("VhostUser: postcopy", .enabled(if: Userfaultfd.isAvailable)) struct PostcopyTests {
  /// What a front-end does with the descriptor of POSTCOPY_ADVISE: it learns which pages are missed, and provides them.
  private final class PageProvider: Sendable {
    private let userfaultfd: Int32
    private let memory: Int32
    private let missed = Mutex<[UInt64]>([])
    private let isDone = Atomic(false)
    private let regions: [(host: UInt64, byteCount: UInt64, offset: Int)]

    init(_ userfaultfd: Int32, memory: Int32, _ regions: [(host: UInt64, byteCount: UInt64, offset: Int)]) {
      self.userfaultfd = userfaultfd
      self.memory = memory
      self.regions = regions
    }

    var missedPages: [UInt64] { missed.withLock { $0 } }

    func stop() {
      isDone.store(true, ordering: .releasing)
    }

    /// Provides pages until it is stopped.
    func serve() {
      while !isDone.load(ordering: .acquiring) {
        var request = pollfd(fd: userfaultfd, events: Int16(POLLIN), revents: 0)
        guard unsafe poll(&request, 1, 20) > 0 else { continue }
        var event = [UInt64](repeating: 0, count: 4)
        guard unsafe read(userfaultfd, &event, 32) == 32 else { continue }
        provide(event[2] & ~4095)
      }
    }

    private func provide(_ page: UInt64) {
      missed.withLock { $0.append(page) }
      guard let region = regions.first(where: { page &- $0.host < $0.byteCount }) else { return }
      var zero: UInt8 = 0
      // A byte of the file, with what the front-end has there, makes the page exist; then whoever waits looks again.
      let place = region.offset + Int(page - region.host)
      unsafe pread(memory, &zero, 1, place)
      unsafe pwrite(memory, &zero, 1, place)
      var range: (UInt64, UInt64) = (page, 4096)
      _ = unsafe ioctl(userfaultfd, 0x8010_aa02, &range)
    }
  }

  /// A front-end that is the destination of a postcopy migration, up to its memory's being mapped.
  private func listening(protocol bits: UInt64 = Wire.all) throws -> (Frontend, GuestDriver) {
    let frontend = try Frontend()
    let driver = try GuestDriver()
    try frontend.negotiate(protocol: bits)
    #expect(try frontend.ask(Wire.postcopyAdvise) == [])
    #expect(frontend.descriptors.count == 1)
    #expect(try frontend.acknowledged(Wire.postcopyListen) == 0)
    return (frontend, driver)
  }

  @Test("memory is mapped, told, and left alone until that is acknowledged; then missing pages are waited for")
  func life() throws {
    let (frontend, driver) = try listening()
    guard let userfaultfd = frontend.descriptors.takeFirst() else { return #expect(Bool(false)) }
    let table = try frontend.ask(Wire.setMemTable, GuestDriver.table(), descriptors: driver.memoryNumbers)
    #expect(table.count == GuestDriver.table().count)
    let hosts = [24, 56].map { Array(table[$0..<$0 + 8]).number }
    #expect(table[8..<24] == GuestDriver.table()[8..<24] && hosts[0] != GuestDriver.ringRegion.user)
    #expect(frontend.device.memory == nil)
    try frontend.send(Wire.setMemTable, number(0))
    #expect(try frontend.answer() == nil)
    #expect(frontend.device.memory != nil)
    try driver.setUpRing(frontend)
    try frontend.send(Wire.setVringEnable, words(0, 1))
    try driver.offer([1, 2])

    let regions = zip(hosts, [GuestDriver.ringRegion, GuestDriver.dataRegion]).map {
      (host: $0, byteCount: $1.size, offset: $1.offset)
    }
    let provider = PageProvider(userfaultfd.rawValue, memory: driver.memory.number, regions)
    let thread = try Thread(name: "pages") { provider.serve() }
    try driver.kickDevice(frontend)
    provider.stop()
    thread.join()
    #expect(try driver.answer(0, byteCount: 2) == [2, 3])
    // The used ring's page is one that nobody had written.
    #expect(provider.missedPages.contains(hosts[0] + 0x2000))
    #expect(try frontend.ask(Wire.postcopyEnd) == number(0))
    #expect(!frontend.isEnded)
  }

  @Test("a front-end that goes while a page of its is waited for is noticed")
  func goneWhileWaiting() throws {
    let (frontend, driver) = try listening()
    guard let userfaultfd = frontend.descriptors.takeFirst()?.release() else { return #expect(Bool(false)) }
    let socket = frontend.socketNumber
    _ = try frontend.ask(Wire.setMemTable, GuestDriver.table(), descriptors: driver.memoryNumbers)
    try frontend.send(Wire.setMemTable, number(0))
    try driver.setUpRing(frontend)
    try frontend.send(Wire.setVringEnable, words(0, 1))
    let thread = try Thread(name: "killer") {
      var request = pollfd(fd: userfaultfd, events: Int16(POLLIN), revents: 0)
      unsafe poll(&request, 1, -1)
      close(userfaultfd)
      shutdown(socket, Int32(SHUT_RDWR))
    }
    try driver.kickDevice(frontend)
    thread.join()
    try frontend.pump()
    #expect(frontend.isEnded)
    #expect(try driver.memory.copyCount() == 0)
  }

  @Test("a ring that is kicked before the acknowledgement is served after it")
  func earlyKick() throws {
    let (frontend, driver) = try listening()
    _ = try frontend.ask(Wire.setMemTable, GuestDriver.table(), descriptors: driver.memoryNumbers)
    try frontend.send(Wire.setVringNum, words(0, GuestDriver.size))
    try frontend.send(Wire.setVringKick, number(0), descriptors: [driver.kickNumber])
    try frontend.send(Wire.setVringEnable, words(0, 1))
    try driver.kickDevice(frontend)
    #expect(frontend.device.memory == nil)
    #expect(try frontend.ask(Wire.postcopyEnd) == number(0))
    #expect(frontend.device.memory != nil)
    // Nobody provides pages any more.
    frontend.descriptors = DescriptorList()
    try driver.offer([5])
    try frontend.send(Wire.setVringAddr, GuestDriver.addresses(ring: 0))
    #expect(try driver.answer(0, byteCount: 1) == [6])
  }

  @Test("regions that are added one by one are each told, and acknowledged together")
  func slots() throws {
    let (frontend, driver) = try listening()
    for region in [GuestDriver.ringRegion, GuestDriver.dataRegion] {
      let answer = try frontend.ask(
        Wire.addMemReg, GuestDriver.region(region), descriptors: [driver.memory.number])
      // Another queue pair's.
      let again = try frontend.ask(
        Wire.addMemReg, GuestDriver.region(region), descriptors: [driver.memory.number])
      #expect(again == answer)
      #expect(answer.count == 40)
      #expect(answer.prefix(24) == GuestDriver.region(region).prefix(24))
      #expect(Array(answer[24..<32]).number != region.user)
      #expect(answer.suffix(8) == number(UInt64(region.offset))[...])
    }
    #expect(frontend.device.memory == nil)
    try frontend.send(Wire.addMemReg, number(0))
    #expect(frontend.device.memory?.regions.count == 2)
    for _ in 0..<2 {
      #expect(frontend.device.memory?.regions.count == 2)
      try frontend.send(Wire.remMemReg, GuestDriver.region(GuestDriver.dataRegion))
    }
    #expect(frontend.device.memory?.regions.count == 2)
    try frontend.send(Wire.remMemReg, number(0))
    #expect(frontend.device.memory?.regions.count == 1)
    // What acknowledges no change at all has no name.
    try frontend.send(0, number(0))
    #expect(!frontend.isEnded)
  }

  @Test("the memory of a device at work rests from POSTCOPY_LISTEN on, and its requests are finished before")
  func listenWhileWorking() throws {
    let frontend = try Frontend()
    let driver = try GuestDriver()
    frontend.device.update { $0.isAsynchronous = true }
    try frontend.negotiate()
    try driver.setUp(frontend)
    try frontend.send(Wire.setVringEnable, words(0, 1))
    try driver.offer([1])
    try driver.kickDevice(frontend)
    _ = try frontend.ask(Wire.postcopyAdvise)
    try frontend.send(Wire.postcopyListen, flags: 9)
    #expect(try frontend.answer() == nil)
    try frontend.finish(1)
    #expect(try frontend.answer()?.payload == number(0))
    try driver.offer([2])
    try driver.kickDevice(frontend)
    #expect(frontend.device.update { $0.requests.count } == 0)
    #expect(try frontend.ask(Wire.postcopyEnd) == number(0))
    #expect(frontend.device.update { $0.requests.count } == 1)
  }

  @Test("what comes without notice, is refused, or is no whole number of pages, ends the connection")
  func refusals() throws {
    let early = try Frontend()
    try early.negotiate()
    try early.send(Wire.postcopyListen)
    #expect(early.error == .postcopyNotAdvised)
    let (refusing, driver) = try listening()
    _ = try refusing.ask(Wire.setMemTable, GuestDriver.table(), descriptors: driver.memoryNumbers)
    try refusing.send(Wire.setMemTable, number(1))
    #expect(refusing.error == .memoryRefused(1))
    let (odd, _) = try listening()
    try odd.send(Wire.addMemReg, GuestDriver.region((0, 100, 0, 0)), descriptors: [driver.memory.number])
    guard case .system(let error) = odd.error else { return #expect(Bool(false)) }
    #expect(error == LinuxError(call: "ioctl(UFFDIO_REGISTER)", number: EINVAL))
    #expect(try driver.memory.copyCount() == 0)
  }
}
