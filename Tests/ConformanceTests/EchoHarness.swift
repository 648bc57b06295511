import GuestRAM
import Support

extension Harness<EchoDevice> {
  static var echo: Self {
    Harness(testDescription: "echo", make: { EchoDevice(operatorNumber: 3) }) { _, number, place in
      let bytes = (0..<(1 + number % 100)).map { UInt8(truncatingIfNeeded: number &+ $0) }
      try place.memory.write(bytes: bytes, at: GuestAddress(place.room))
      return [.readable(place.room, UInt32(bytes.count)), .writable(place.room + 128, 100)]
    }
  }
}
