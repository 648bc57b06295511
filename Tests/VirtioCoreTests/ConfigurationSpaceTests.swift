import Support
import Testing
import VirtioCore

@Suite("Configuration space")
struct ConfigurationSpaceTests {
  struct Refused: Error {}

  @Test("2.5: it is read little-endian, in any piece")
  func read() throws {
    let bench = try DeviceBench(EchoDevice(operatorNumber: 0x0403_0201))
    #expect(bench.host.readConfig(at: 0, byteCount: 8) == [1, 2, 3, 4, 0, 0, 0, 0])
    #expect(bench.host.readConfig(at: 2, byteCount: 1) == [3])
    #expect(bench.host.readConfig(at: 2, byteCount: 0) == [])
  }

  @Test("Bytes outside of it are read as 0, however far")
  func beyond() throws {
    let bench = try DeviceBench(EchoDevice(operatorNumber: .max))
    #expect(bench.host.readConfig(at: 3, byteCount: 8) == [255, 0, 0, 0, 0, 0, 0, 0])
    for offset in [8, 4096, Int.max - 1, Int.max, -2, Int.min] {
      #expect(bench.host.readConfig(at: offset, byteCount: 3).filter { $0 != 0 }.count == (offset == -2 ? 1 : 0))
    }
    #expect(bench.host.readConfig(at: 0, byteCount: -1) == [])
  }

  @Test("Writes inside of it reach the model; others are refused whole")
  func write() throws {
    var bench = try DeviceBench(EchoDevice())
    for offset in -1...9 {
      for count in 0...9 {
        let bytes = [UInt8](repeating: 0xA5, count: count)
        let isInside = offset >= 0 && offset + count <= 8
        let before = bench.host.readConfig(at: 0, byteCount: 8)
        let error = refusal { () throws(HostError) in try bench.host.writeConfig(bytes, at: offset) }
        #expect(error == (isInside ? nil : .configOutOfRange(offset: offset, byteCount: count, size: 8)))
        if !isInside { #expect(bench.host.readConfig(at: 0, byteCount: 8) == before) }
      }
    }
    for offset in [Int.max, Int.min] {
      #expect(refusal { () throws(HostError) in try bench.host.writeConfig([1], at: offset) } != nil)
    }
  }

  @Test("2.5.1: the generation counts changes that the driver did not make, and those alone are told")
  func generation() throws {
    var bench = try DeviceBench(EchoDevice())
    try bench.start()
    try bench.host.writeConfig([1, 2], at: 4)
    #expect(bench.host.configGeneration == 0)
    #expect(bench.notifications.take() == [])

    bench.host.update { $0.operatorNumber = 1 }
    #expect(bench.host.configGeneration == 1)
    #expect(bench.notifications.take() == [.configuration])

    bench.host.update { $0.operatorNumber = 1 }
    #expect(bench.host.configGeneration == 1)
    #expect(bench.notifications.take() == [])
  }

  @Test("2.3: what a backend's news change is noticed and told as well")
  func news() throws {
    var bench = try DeviceBench(EchoDevice())
    try bench.start()
    bench.host.update { $0.news = 9 }
    bench.host.wake()
    #expect(bench.host.configGeneration == 1)
    #expect(bench.notifications.take().filter { $0 == .configuration }.count == 1)
  }

  @Test("A change made before an error is noticed")
  func halfDone() throws {
    var bench = try DeviceBench(EchoDevice())
    try bench.start()
    #expect(throws: Refused.self) {
      try bench.host.update { (device) throws(Refused) in
        device.operatorNumber = 5
        throw Refused()
      }
    }
    #expect(bench.host.configGeneration == 1)
    #expect(bench.notifications.take() == [.configuration])
  }

  @Test("2.1.2: nobody is told of a change before DRIVER_OK, but it counts")
  func silent() throws {
    var bench = try DeviceBench(EchoDevice())
    bench.host.update { $0.operatorNumber = 5 }
    #expect(bench.host.configGeneration == 1)
    #expect(bench.notifications.take() == [])
  }

  @Test("2.4: a driver without status steps hears of a change before it has kicked anything, and nobody before it came")
  func changeBeforeFirstKick() throws {
    var bench = try DeviceBench(EchoDevice())
    bench.host.update { $0.operatorNumber = 1 }
    #expect(bench.notifications.take() == [])
    try bench.host.acceptFeatures([.version1])
    bench.host.update { $0.operatorNumber = 2 }
    #expect(bench.notifications.take() == [.configuration])
  }

  @Test("An update's result comes back")
  func result() throws {
    var bench = try DeviceBench(EchoDevice(operatorNumber: 3))
    let number = bench.host.update { (device) in device.operatorNumber }
    #expect(number == 3)
  }
}
