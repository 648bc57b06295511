import Balloon
import GuestRAM
import Support
import Testing
import VirtioCore
import Virtqueue

@Suite("Balloon: queue numbers") struct BalloonQueuesTests {
  private typealias Role = BalloonQueues.Role

  /// Every choice of the six feature bits.
  private static let combinations = Array(UInt64(0)...Bit.all)

  @Test("5.5.2: fixed numbers stay, whatever was negotiated", arguments: combinations)
  func fixed(features: UInt64) {
    let queues = BalloonQueues(features: Features(low: features), numbering: .fixed)
    #expect(queues.role(of: 0) == .inflate)
    #expect(queues.role(of: 1) == .deflate)
    #expect(queues.role(of: 2) == (features & Bit.statistics != 0 ? .statistics : nil))
    #expect(queues.role(of: 3) == (features & Bit.hint != 0 ? .hinting : nil))
    #expect(queues.role(of: 4) == (features & Bit.reporting != 0 ? .reporting : nil))
    #expect(queues.role(of: 5) == nil)
    #expect(queues.role(of: -1) == nil)
  }

  /// As a Linux driver numbers them: one after the other, as it finds the features.
  private static func counted(_ features: UInt64) -> [Role?] {
    var roles: [Role?] = [.inflate, .deflate]
    if features & Bit.statistics != 0 { roles.append(.statistics) }
    if features & Bit.hint != 0 { roles.append(.hinting) }
    if features & Bit.reporting != 0 { roles.append(.reporting) }
    return roles + [Role?](repeating: nil, count: 5 - roles.count)
  }

  @Test("5.5.2: consecutive numbers leave out what was not negotiated", arguments: combinations)
  func consecutive(features: UInt64) {
    let queues = BalloonQueues(features: Features(low: features), numbering: .consecutive)
    #expect((0..<5).map(queues.role) == Self.counted(features))
    #expect(queues.role(of: 5) == nil)
  }

  @Test("5.5.2: both numberings agree once nothing in front is missing", arguments: combinations)
  func agreement(features: UInt64) {
    let consecutive = BalloonQueues(features: Features(low: features), numbering: .consecutive)
    let fixed = BalloonQueues(features: Features(low: features), numbering: .fixed)
    let hasGap =
      (features & Bit.statistics == 0 && features & (Bit.hint | Bit.reporting) != 0)
      || (features & Bit.hint == 0 && features & Bit.reporting != 0)
    #expect((consecutive.roles == fixed.roles) == !hasGap)
  }

  @Test("5.5.2: a role's queue is the one that has the role", arguments: combinations)
  func inverse(features: UInt64) {
    for numbering in BalloonQueues.Numbering.allCases {
      let queues = BalloonQueues(features: Features(low: features), numbering: numbering)
      for role in Role.allCases {
        guard let index = queues.index(of: role) else {
          #expect(!(0..<5).contains { queues.role(of: $0) == role })
          continue
        }
        #expect(queues.role(of: index) == role)
      }
    }
  }

  /// Sends a reported range to the queue that the driver thinks is the reporting queue.
  @Test("5.5.2: the device serves each queue by the numbering it was made with", arguments: combinations)
  func served(features: UInt64) throws {
    for numbering in BalloonQueues.Numbering.allCases {
      var options = BalloonOptions()
      options.deflateOnOutOfMemory = true
      options.numbering = numbering
      let guest = try BalloonGuest(reclaimer: Recorder(), options: options, accepting: features)
      let roles =
        numbering == .consecutive
        ? Self.counted(features)
        : BalloonQueues(features: Features(low: features), numbering: .fixed).roles
      for (index, role) in roles.enumerated() {
        guest.host.update { $0.reclaimer.events = [] }
        let used = try guest.send([.writable(0x40_0000, 0x1000)], to: index)
        #expect((used == nil) == (role == nil || role == .statistics))
        #expect(guest.host.device.reclaimer.events == (role == .reporting ? [.released(pages(1024))] : []))
      }
    }
  }

  @Test("queues are as large as QEMU's, and larger where a front-end does not ask")
  func sizes() {
    var options = BalloonOptions()
    #expect(BalloonDevice(options, reclaimer: Recorder()).queueSizes == [128, 128, 128, 1024, 32])
    options.leastQueueSize = 256
    #expect(BalloonDevice(options, reclaimer: Recorder()).queueSizes == [256, 256, 256, 1024, 256])
    options.leastQueueSize = 129
    #expect(BalloonDevice(options, reclaimer: Recorder()).queueSizes == [256, 256, 256, 1024, 256])
    options.leastQueueSize = .max
    #expect(BalloonDevice(options, reclaimer: Recorder()).queueSizes == [UInt16](repeating: 32768, count: 5))
    options.leastQueueSize = 0
    #expect(BalloonDevice(options, reclaimer: Recorder()).queueSizes == [128, 128, 128, 1024, 32])
  }

  @Test("Linux reports 32 ranges at a time: every queue that may report has room", arguments: combinations)
  func reportingRoom(features: UInt64) {
    let device = BalloonDevice(reclaimer: Recorder())
    for numbering in BalloonQueues.Numbering.allCases {
      let queues = BalloonQueues(features: Features(low: features), numbering: numbering)
      if let index = queues.index(of: .reporting) { #expect(device.queueSizes[index] >= 32) }
    }
  }
}
