/// The messages that a front-end sends, by their numbers in the protocol.
public enum FrontendRequest: UInt32, CaseIterable, Sendable {
  case getFeatures = 1
  case setFeatures = 2
  case setOwner = 3
  case resetOwner = 4
  case setMemTable = 5
  case setLogBase = 6
  case setLogFd = 7
  case setVringNum = 8
  case setVringAddr = 9
  case setVringBase = 10
  case getVringBase = 11
  case setVringKick = 12
  case setVringCall = 13
  case setVringErr = 14
  case getProtocolFeatures = 15
  case setProtocolFeatures = 16
  case getQueueNum = 17
  case setVringEnable = 18
  case sendRarp = 19
  case netSetMtu = 20
  case setBackendReqFd = 21
  case iotlbMsg = 22
  case setVringEndian = 23
  case getConfig = 24
  case setConfig = 25
  case createCryptoSession = 26
  case closeCryptoSession = 27
  case postcopyAdvise = 28
  case postcopyListen = 29
  case postcopyEnd = 30
  case getInflightFd = 31
  case setInflightFd = 32
  case gpuSetSocket = 33
  case resetDevice = 34
  case vringKick = 35
  case getMaxMemSlots = 36
  case addMemReg = 37
  case remMemReg = 38
  case setStatus = 39
  case getStatus = 40
  case getSharedObject = 41
  case setDeviceStateFd = 42
  case checkDeviceState = 43
  case getShmemConfig = 44

  /// How many descriptors may come with the message.
  var descriptorCounts: ClosedRange<Int> {
    switch self {
    case .setMemTable: 1...MemoryTable.mostRegions
    case .setVringKick, .setVringCall, .setVringErr, .remMemReg: 0...1
    case .setLogBase, .setLogFd, .setBackendReqFd, .setInflightFd, .gpuSetSocket, .addMemReg, .setDeviceStateFd: 1...1
    default: 0...0
    }
  }

  /// Whether the front-end waits for an answer that holds more than success or failure.
  var hasReply: Bool {
    switch self {
    case .getFeatures, .getVringBase, .getProtocolFeatures, .getQueueNum, .getConfig, .getStatus, .getMaxMemSlots,
      .iotlbMsg, .createCryptoSession, .postcopyAdvise, .postcopyEnd, .getInflightFd, .getSharedObject,
      .setDeviceStateFd, .checkDeviceState, .getShmemConfig, .setLogBase:
      true
    default: false
    }
  }

  /// The protocol feature that has to be negotiated before the message may be sent; nil for those that are always there.
  var neededFeature: ProtocolFeatures? {
    switch self {
    case .getQueueNum: .multiqueue
    case .setLogBase: .sharedLog
    case .sendRarp: .announcements
    case .netSetMtu: .mtu
    case .getMaxMemSlots, .addMemReg, .remMemReg: .memorySlots
    case .setBackendReqFd: .backendRequests
    case .getConfig, .setConfig: .config
    case .getInflightFd, .setInflightFd: .inflightRegion
    case .resetDevice: .resetDevice
    case .vringKick: .inbandNotifications
    case .setStatus, .getStatus: .status
    case .setDeviceStateFd, .checkDeviceState: .deviceState
    case .postcopyAdvise, .postcopyListen, .postcopyEnd: .pageFaults
    default: nil
    }
  }
}

/// The messages that a back-end sends on the channel of `SET_BACKEND_REQ_FD`.
public enum BackendRequest: UInt32, Sendable {
  case configChangeMsg = 2
  case vringCall = 4
}

extension RawRepresentable where Self: SendableMetatype, RawValue == UInt32 {
  /// The name as the protocol has it: `SET_VRING_ADDR` for `setVringAddr`.
  fileprivate var protocolName: String {
    String(describing: self).reduce(into: "") { name, letter in
      if letter.isUppercase { name.append("_") }
      name += letter.uppercased()
    }
  }
}

/// A message's number, for people: its name if it has one.
func requestName(_ number: UInt32) -> String {
  FrontendRequest(rawValue: number)?.protocolName ?? "message \(number)"
}

func requestName(_ request: BackendRequest) -> String {
  request.protocolName
}
