public import VirtioCore

/// A recording that was read: whole, and of a device that is known here.
public struct Recording: Sendable {
  public let device: DeviceID
  /// How many calls of the device were recorded.
  public let stepCount: Int
  private let properties: [UInt8]
  private let file: [UInt8]
  private let frames: [TapeFrame]
  /// Of calls; all else is the same in every format.
  private let format: UInt8

  /// - Parameter file: all bytes of the recording, wherever they come from.
  public init(_ file: [UInt8]) throws(RecordingError) {
    guard file.count <= TapeLimits.fileByteCount else {
      throw .tooMuch("bytes", count: file.count, limit: TapeLimits.fileByteCount)
    }
    let frames = try TapeFrames.frames(of: file)
    let setup = try Self.setup(file, frames[0])
    guard let device = DeviceID(rawValue: setup.device) else { throw .unknownDevice(setup.device) }
    try Self.checkOrder(of: frames)
    let end = frames[frames.count - 1]
    let ending = try TapeReader.record(TapeEnd.self, in: file, at: end.range)
    self.file = file
    self.frames = frames
    format = TapeFrames.format(of: file) ?? TapeFrames.format
    self.device = device
    properties = setup.properties
    stepCount = (frames.count - 2) / 2
    guard ending.callCount == UInt64(stepCount) else {
      throw .malformed(at: end.range.lowerBound, "\(ending.callCount) steps are said to be here, and \(stepCount) are")
    }
  }

  /// Whether bytes begin as those of a recording do.
  public static func isBegun(by bytes: [UInt8]) -> Bool { bytes.starts(with: TapeFrames.start) }

  private static func setup(_ file: [UInt8], _ frame: TapeFrame) throws(RecordingError) -> TapeSetup {
    guard frame.kind == .setup else {
      throw .malformed(at: frame.range.lowerBound, "the first record does not say which device it was")
    }
    return try TapeReader.record(TapeSetup.self, in: file, at: frame.range)
  }

  /// Each call is followed by its outcome, and there is nothing else.
  private static func checkOrder(of frames: [TapeFrame]) throws(RecordingError) {
    for (index, frame) in frames.dropFirst().dropLast().enumerated()
    where frame.kind != (index % 2 == 0 ? .call : .outcome) {
      throw .malformed(at: frame.range.lowerBound, "a \(frame.kind) where there can be none")
    }
    guard frames.count % 2 == 0 else {
      throw .malformed(at: frames[frames.count - 1].range.lowerBound, "nothing came of the last call")
    }
  }

  /// How the device was made.
  func properties<Properties: TapeRecord>(_: Properties.Type) throws(RecordingError) -> Properties {
    try TapeReader.record(Properties.self, in: properties, at: 0..<properties.count)
  }

  /// Where a step's call stands in the file.
  func place(of step: Int) -> Int { frames[1 + 2 * step].range.lowerBound }

  func call(of step: Int) throws(RecordingError) -> TapeCall {
    try TapeReader.record(TapeCall.self, in: file, at: frames[1 + 2 * step].range, format: format)
  }

  func outcome(of step: Int) throws(RecordingError) -> TapeOutcome {
    try TapeReader.record(TapeOutcome.self, in: file, at: frames[2 + 2 * step].range)
  }
}
