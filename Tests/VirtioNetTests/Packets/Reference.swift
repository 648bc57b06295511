/// The slow and obvious way to do what is tested.
enum Reference {
  /// The ones' complement sum, two bytes at a time.
  static func sum(_ bytes: [UInt8]) -> UInt16 {
    var sum = 0
    for start in stride(from: 0, to: bytes.count, by: 2) {
      sum += Int(bytes[start]) * 256 + (start + 1 < bytes.count ? Int(bytes[start + 1]) : 0)
      if sum > 0xFFFF { sum -= 0xFFFF }
    }
    return UInt16(sum)
  }

  /// The Toeplitz hash, one bit at a time.
  static func toeplitz(_ key: [UInt8], _ input: [UInt8]) -> UInt32 {
    func bit(_ bytes: [UInt8], _ place: Int) -> UInt32 {
      place / 8 < bytes.count ? UInt32(bytes[place / 8] >> UInt8(7 - place % 8)) & 1 : 0
    }
    var hash: UInt32 = 0
    for place in 0..<input.count * 8 where bit(input, place) == 1 {
      hash ^= (0..<32).reduce(0) { $0 << 1 | bit(key, place + $1) }
    }
    return hash
  }

  /// What a receiver makes of a frame, all of whose lengths and checksums it finds right.
  struct Packet {
    var ethernet: [UInt8]
    var isIP6: Bool
    var identification = 0
    /// In bytes.
    var fragmentOffset = 0
    var hasMoreFragments = false
    var isFragment: Bool { hasMoreFragments || fragmentOffset != 0 }
    var proto = 0
    var addresses: [UInt8] = []
    /// Behind all IP headers.
    var body: [UInt8] = []

    var sequence: UInt32 { body[4..<8].reduce(0) { $0 << 8 | UInt32($1) } }
    var flags: UInt8 { body[13] }
    var payload: [UInt8] { Array(body.dropFirst(proto == 6 ? Int(body[12] >> 4) * 4 : 8)) }

    /// Nil when anything is wrong with it.
    init?(_ frame: [UInt8]) {
      var place = 12
      while [[0x81, 0x00], [0x88, 0xA8]].contains(Array(frame[place..<place + 2])) { place += 4 }
      ethernet = Array(frame[..<(place + 2)])
      isIP6 = frame[place] == 0x86
      let ip = Array(frame[(place + 2)...])
      guard isIP6 ? readIP6(ip) : readIP4(ip) else { return nil }
      guard isFragment || checksumHolds else { return nil }
    }

    private mutating func readIP4(_ ip: [UInt8]) -> Bool {
      let length = Int(ip[0] & 15) * 4
      guard Int(ip[2]) * 256 + Int(ip[3]) == ip.count, Reference.sum(Array(ip[..<length])) == 0xFFFF else {
        return false
      }
      identification = Int(ip[4]) * 256 + Int(ip[5])
      fragmentOffset = (Int(ip[6] & 0x1F) * 256 + Int(ip[7])) * 8
      hasMoreFragments = ip[6] & 0x20 != 0
      proto = Int(ip[9])
      addresses = Array(ip[12..<20])
      body = Array(ip[length...])
      return true
    }

    private mutating func readIP6(_ ip: [UInt8]) -> Bool {
      guard Int(ip[4]) * 256 + Int(ip[5]) == ip.count - 40 else { return false }
      addresses = Array(ip[8..<40])
      proto = Int(ip[6])
      var place = 40
      while [0, 43, 44, 60].contains(proto) {
        if proto == 44 {
          fragmentOffset = Int(ip[place + 2]) * 256 + Int(ip[place + 3] & 0xF8)
          hasMoreFragments = ip[place + 3] & 1 != 0
          identification = ip[place + 4..<place + 8].reduce(0) { $0 << 8 | Int($1) }
        }
        let length = proto == 44 ? 8 : (Int(ip[place + 1]) + 1) * 8
        proto = Int(ip[place])
        place += length
      }
      body = Array(ip[place...])
      return true
    }

    var checksumHolds: Bool {
      if proto == 17, Int(body[4]) * 256 + Int(body[5]) != body.count || body[6...7] == [0, 0] { return false }
      let pseudo = addresses + [0, UInt8(proto)] + [UInt8(body.count >> 8), UInt8(body.count & 255)]
      return Reference.sum(pseudo + body) == 0xFFFF
    }
  }
}
