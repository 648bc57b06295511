/// The state of a virtio device in a stream, of which the stream itself tells only the length.
///
/// QEMU writes, in this order: what the transport keeps, what every device keeps, the queues, what this kind of device keeps,
/// and subsections (`hw/virtio/virtio.c`).
public struct VirtioSection: Equatable, Sendable {
  /// The devices whose own part is known here.
  public enum Model: String, CaseIterable, Sendable {
    case block = "virtio-blk"
    case net = "virtio-net"
    case balloon = "virtio-balloon"
    /// A disk that a back-end serves, which keeps nothing of it in the stream.
    case vhostUserBlock = "vhost-user-blk"
    /// It keeps nothing of its own.
    case entropy = "virtio-rng"

    /// The one version of the section that QEMU 7.2 to 10.0 write.
    var version: UInt32 {
      switch self {
      case .block: 2
      case .net: 11
      case .balloon, .vhostUserBlock, .entropy: 1
      }
    }
  }

  public enum Transport: Equatable, Sendable {
    case pci, mmio
  }

  public let model: Model
  public let transport: Transport
  /// The device's place in the machine, such as `0000:00:01.0` or `virtio-mmio@00000000feb02e00`.
  public let path: String
  public let section: StreamSection
  /// Where in the section's fields each is.
  private let places: [String: Int]

  /// The virtio device that a section is of; nil for anything else.
  public init?(_ section: StreamSection) {
    guard section.kind == .full, let (path, name) = Self.split(section.name), let model = Model(rawValue: name),
      let transport = Self.transport(of: path)
    else { return nil }
    self.path = path
    self.model = model
    self.transport = transport
    self.section = section
    let names = section.fields.enumerated().map { ($0.element.name, $0.offset) }
    places = Dictionary(names, uniquingKeysWith: { first, _ in first })
  }

  /// A field by its name, such as `queues[0].lastAvailable`; nil where there is none.
  public func field(_ name: String) -> StreamField? { places[name].map { section.fields[$0] } }

  /// The number in a field; nil where there is none.
  public func number(_ name: String) -> UInt64? {
    guard case .unsigned(let value)? = field(name)?.value else { return nil }
    return value
  }

  /// The bytes in a field; nil where there are none.
  public func bytes(_ name: String) -> [UInt8]? {
    guard case .bytes(let value)? = field(name)?.value else { return nil }
    return value
  }

  /// A section's name as the device's place in the machine and what it is.
  private static func split(_ name: String) -> (path: String, name: String)? {
    guard let slash = name.lastIndex(of: "/") else { return nil }
    return (String(name[..<slash]), String(name[name.index(after: slash)...]))
  }

  private static func transport(of path: String) -> Transport? {
    if path.hasPrefix("virtio-mmio@") { return .mmio }
    return isPCI(path) ? .pci : nil
  }

  /// Whether a path is of devices behind each other such as `0000:00:01.0` and `0000:00:01.0:00.0`.
  private static func isPCI(_ path: String) -> Bool {
    let parts = path.split(separator: ":", omittingEmptySubsequences: false)
    return parts.count >= 3 && parts.dropFirst(2).allSatisfy { $0.count == 4 && $0.dropFirst(2).first == "." }
  }

  /// The section's fields; nil for a section of another kind.
  ///
  /// Of a device whose own part is not known, such as a console, what every device has is told, and the rest as one field.
  static func fields(of section: StreamSection) throws(QEMUStreamError) -> [StreamField]? {
    guard let virtio = VirtioSection(section) else { return unknownFields(of: section) }
    guard section.version == virtio.model.version else {
      throw .unsupportedVersion(
        StreamPlace(section: section.label, offset: section.offset), version: section.version,
        known: virtio.model.version)
    }
    var parser = VirtioParser(section, virtio.model, virtio.transport)
    return try parser.parse()
  }

  private static func unknownFields(of section: StreamSection) -> [StreamField]? {
    guard section.kind == .full, let (path, name) = split(section.name), let transport = transport(of: path),
      name.hasPrefix("virtio-") || name.hasPrefix("vhost-")
    else { return nil }
    var parser = VirtioParser(section, nil, transport)
    // Somebody else's section may have such a name; then it is told as the stream describes it.
    return try? parser.parse()
  }
}

/// Reads a virtio device's section.
struct VirtioParser {
  /// Nil for a device whose own part is not known.
  let model: VirtioSection.Model?
  let transport: VirtioSection.Transport
  var cursor: FieldCursor
  var hasVectors = false
  var queueCount = 0
  /// The negotiated features of which the section's own layout depends.
  var features: UInt64 = 0

  init(_ section: StreamSection, _ model: VirtioSection.Model?, _ transport: VirtioSection.Transport) {
    self.model = model
    self.transport = transport
    cursor = FieldCursor(section.body, section: section.label, origin: section.bodyOffset)
  }

  mutating func parse() throws(QEMUStreamError) -> [StreamField] {
    switch transport {
    case .pci: try parsePCI()
    case .mmio: try parseMMIO()
    }
    try parseCommon()
    switch model {
    case .block: try parseBlock()
    case .net: try parseNet()
    case .balloon: try parseBalloon()
    case .vhostUserBlock, .entropy: break
    case nil: try cursor.bytes(cursor.remaining, "device")
    }
    while !cursor.isAtEnd { try parseSubsection() }
    return cursor.fields
  }

  // MARK: - Transports

  private mutating func parsePCI() throws(QEMUStreamError) {
    let place = cursor.place("pci.version")
    let version = try cursor.integer(UInt32.self, "pci.version")
    guard version == 2 else { throw .unsupportedVersion(place, version: version, known: 2) }
    // Only a device behind a PCI Express port has the long configuration space, and says so in the short one.
    try cursor.need(256, "pci.config")
    let start = cursor.position
    let isExpress = PCICapabilities(cursor.bytes, at: start).express != nil
    let config = try cursor.bytes(isExpress ? 4096 : 256, "pci.config")
    for pin in 0..<4 { try parseFlag("pci.pins[\(pin)]") }
    guard let vectors = PCICapabilities(config, at: 0).vectorCount else { return }
    hasVectors = true
    try cursor.bytes(16 * vectors, "msix.table")
    try cursor.bytes((vectors + 7) / 8, "msix.pending")
    try cursor.integer(UInt16.self, "msix.configVector")
  }

  private mutating func parseFlag(_ name: String) throws(QEMUStreamError) {
    let place = cursor.place(name)
    guard try cursor.integer(UInt32.self, name) <= 1 else { throw .invalid(place, reason: "neither 0 nor 1") }
  }

  private mutating func parseMMIO() throws(QEMUStreamError) {
    try cursor.integer(UInt32.self, "mmio.hostFeaturesSelect")
    try cursor.integer(UInt32.self, "mmio.guestFeaturesSelect")
    try cursor.integer(UInt32.self, "mmio.guestPageShift")
  }

  // MARK: - Every device

  private mutating func parseCommon() throws(QEMUStreamError) {
    try cursor.integer(UInt8.self, "status")
    try cursor.integer(UInt8.self, "isr")
    let place = cursor.place("queueSelect")
    let select = try cursor.integer(UInt16.self, "queueSelect")
    guard select < StreamLimits.queueCount else {
      throw .beyondLimit(place, value: UInt64(select), limit: UInt64(StreamLimits.queueCount) - 1)
    }
    features = UInt64(try cursor.integer(UInt32.self, "features"))
    let length = try cursor.integer(UInt32.self, "configLength")
    try cursor.bytes(Int(length), "config")
    let countPlace = cursor.place("queueCount")
    let count = try cursor.integer(UInt32.self, "queueCount")
    guard count <= StreamLimits.queueCount else {
      throw .beyondLimit(countPlace, value: UInt64(count), limit: UInt64(StreamLimits.queueCount))
    }
    queueCount = Int(count)
    for index in 0..<queueCount { try parseQueue(index) }
  }

  private mutating func parseQueue(_ index: Int) throws(QEMUStreamError) {
    let name = "queues[\(index)]"
    let place = cursor.place(name)
    try cursor.integer(UInt32.self, "\(name).size")
    if transport == .mmio { try cursor.integer(UInt32.self, "\(name).align") }
    let table = try cursor.integer(UInt64.self, "\(name).desc")
    let next = try cursor.integer(UInt16.self, "\(name).lastAvailable")
    if hasVectors { try cursor.integer(UInt16.self, "\(name).vector") }
    guard table != 0 || next == 0 else { throw .invalid(place, reason: "a queue without descriptors has advanced") }
  }

  // MARK: - Subsections

  mutating func parseSubsection() throws(QEMUStreamError) {
    let place = cursor.place
    try cursor.need(1, "subsection")
    guard cursor.continues(after: 0, with: StreamPart.subsection) else {
      throw .invalid(place, reason: "no subsection, where one should be")
    }
    cursor.skip(1)
    let name = try cursor.name("subsection")
    let version = try cursor.integer(UInt32.self, name + ".version")
    let known: UInt32 = name == "virtio-net-device/backend" ? 0 : 1
    guard version == known else { throw .unsupportedVersion(place, version: version, known: known) }
    if try parseCommonPart(name) { return }
    guard try parseModelPart(name) else {
      throw .unsupported(place, what: "the subsection \(name.printable)")
    }
  }

  private mutating func parseCommonPart(_ name: String) throws(QEMUStreamError) -> Bool {
    let most = StreamLimits.queueCount
    switch name {
    case "virtio/device_endian": try cursor.integer(UInt8.self, "endian")
    case "virtio/64bit_features": features = try cursor.integer(UInt64.self, "allFeatures")
    case "virtio/virtqueues":
      try cursor.records("rings", count: most, byteCount: 16) { (cursor) throws(QEMUStreamError) in
        try cursor.integer(UInt64.self, "avail")
        try cursor.integer(UInt64.self, "used")
      }
    case "virtio/ringsize":
      try cursor.records("defaultSizes", count: most, byteCount: 4) { (cursor) throws(QEMUStreamError) in
        try cursor.integer(UInt32.self, "size")
      }
    case "virtio/broken": try cursor.integer(UInt8.self, "broken")
    case "virtio/extra_state": break
    case "virtio_pci/modern_state": try parseModernState()
    case "virtio_mmio/state": try parseMMIOState()
    case "virtio/started": try cursor.integer(UInt8.self, "started")
    case "virtio/disabled": try cursor.integer(UInt8.self, "disabled")
    case "virtio/packed_virtqueues":
      try cursor.records("packed", count: most, byteCount: 10) { (cursor) throws(QEMUStreamError) in
        try cursor.integer(UInt16.self, "lastAvailable")
        try cursor.integer(UInt8.self, "availWrap")
        try cursor.integer(UInt16.self, "usedIndex")
        try cursor.integer(UInt8.self, "usedWrap")
        try cursor.integer(UInt32.self, "inUse")
      }
    default: return false
    }
    return true
  }

  private mutating func parseModernState() throws(QEMUStreamError) {
    try cursor.integer(UInt32.self, "modern.deviceFeatureSelect")
    try cursor.integer(UInt32.self, "modern.driverFeatureSelect")
    for half in 0..<2 { try cursor.integer(UInt32.self, "modern.features[\(half)]") }
    try cursor.records("modern.queues", count: StreamLimits.queueCount, byteCount: 28) {
      (cursor) throws(QEMUStreamError) in
      try cursor.integer(UInt16.self, "size")
      try cursor.integer(UInt8.self, "unused")
      try Self.parseProxyQueue(&cursor)
    }
  }

  private mutating func parseMMIOState() throws(QEMUStreamError) {
    for half in 0..<2 { try cursor.integer(UInt32.self, "modern.features[\(half)]") }
    try cursor.records("modern.queues", count: StreamLimits.queueCount, byteCount: 27) {
      (cursor) throws(QEMUStreamError) in
      try cursor.integer(UInt16.self, "size")
      try Self.parseProxyQueue(&cursor)
    }
  }

  private static func parseProxyQueue(_ cursor: inout FieldCursor) throws(QEMUStreamError) {
    try cursor.integer(UInt8.self, "enabled")
    for part in ["desc", "avail", "used"] {
      try cursor.integer(UInt32.self, part + ".low")
      try cursor.integer(UInt32.self, part + ".high")
    }
  }
}
