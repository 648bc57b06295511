import GuestRAM
import LinuxIO

/// A guest in a file, of which everything has been read and checked but the bytes of its pages.
///
/// `restore` makes memory of it whose pages are read when they are touched. `Destination.receive` is for whoever wants
/// all of them read before the guest starts.
public struct SavedGuest: Sendable {
  /// What was told about the guest when it was saved.
  public let description: GuestDescription
  /// The saved state of devices and processors.
  public let state: [UInt8]
  let file: SavedFile
  let index: SavedIndex

  /// Reads a file that a `Source` wrote to its end: what the guest is like, its state, and where its pages are, whichever
  /// pass had them last. That costs a few bytes of memory for each page, and time for each MiB of the file.
  ///
  /// - Parameters:
  ///   - limits: the most of memory and state.
  ///   - refusing: judges the guest before its pages are looked for: why it cannot be taken, or nil.
  /// - Throws: as `Destination.receive` for a file that is damaged, or not whole; `onlyEagerly` for one whose pages are
  ///   compressed.
  public init(
    file path: String, limits: DestinationLimits, refusing: (GuestDescription) -> String? = { _ in nil }
  ) throws(MigrationError) {
    file = try SavedFile(path)
    var stream = FrameStream(file, limit: limits.time)
    let hello = try stream.receiveHello()
    guard hello.role == .source else { throw .sameRole }
    description = try GuestDescription(stream.receive(.description).payload)
    guard description.memoryByteCount <= limits.mostMemory else {
      throw .tooMuchMemory(byteCount: description.memoryByteCount, most: limits.mostMemory)
    }
    if let reason = refusing(description) {
      throw .refused(source: hello.producer, destination: "a lazy restore", reason: reason)
    }
    var reading = Reading(description, limits)
    while try reading.take(stream.receive(), from: file) {}
    _ = try stream.receive(.commit)
    state = reading.state
    index = reading.index
  }
}

extension SavedGuest {
  /// What is known while the frames of a file are gone through.
  private struct Reading {
    private let limits: DestinationLimits
    private let regions: [GuestRange]
    private var planned: PlannedPages
    private var report = MigrationReport()
    var index: SavedIndex
    var state: [UInt8] = []

    init(_ description: GuestDescription, _ limits: DestinationLimits) {
      self.limits = limits
      regions = description.regions
      planned = PlannedPages(regions)
      index = SavedIndex(regions)
    }

    /// - Returns: whether more is to come.
    mutating func take(_ frame: Frame, from file: SavedFile) throws(MigrationError) -> Bool {
      switch frame.kind {
      case .plan: try takePlan(frame)
      case .pass: try beginPass(frame)
      case .pages: try takePages(frame, from: file)
      case .state: try append(frame)
      case .encoded: throw .onlyEagerly
      case .complete:
        try finish(Completion(frame.payload))
        return false
      default: throw .unexpectedFrame(frame.kind)
      }
      return true
    }

    private mutating func takePlan(_ frame: Frame) throws(MigrationError) {
      let plan = try PageRun.runs(frame.payload)
      _ = try planned.add(plan)
      report.count(plan)
      for run in plan where run.isZero { index.clear(run.range) }
    }

    private mutating func beginPass(_ frame: Frame) throws(MigrationError) {
      let number = try Pass.number(frame.payload)
      guard number == report.passCount + 1, number <= Pass.most else { throw .unexpectedFrame(.pass) }
      report.passCount += 1
      try planned.beginPass(regions)
    }

    private mutating func takePages(_ frame: Frame, from file: SavedFile) throws(MigrationError) {
      let pages = try planned.take(frame)
      var reader = WireReader(frame.payload)
      guard let start: UInt64 = reader.integer(), let digest: UInt64 = reader.integer(), reader.remainingCount == 0
      else { throw .malformedFrame(.pages) }
      let offset = file.position
      try file.skip(frame.dataByteCount)
      index.add(pages, at: offset, start: start, digest: digest)
    }

    private mutating func append(_ frame: Frame) throws(MigrationError) {
      guard !frame.payload.isEmpty else { throw .malformedFrame(.state) }
      guard state.count + frame.payload.count <= limits.mostState else {
        throw .tooMuchState(byteCount: state.count + frame.payload.count, most: limits.mostState)
      }
      state += frame.payload
    }

    private func finish(_ completion: Completion) throws(MigrationError) {
      guard planned.isEmpty else { throw .incomplete }
      let received = Completion(
        dataPageCount: report.dataPageCount, zeroPageCount: report.zeroPageCount, outstandingPageCount: 0,
        stateByteCount: UInt64(state.count),
        stateDigest: GuestMemory.digest(of: state), isToVerify: false)
      guard completion == received else { throw .incomplete }
    }
  }
}
