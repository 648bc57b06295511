/// What it may cost to read the sections of one stream as its description tells.
///
/// A description is small beside what it can ask for: structures without a byte of their own in arrays of arrays, and the same
/// again in every part of a section. So each look at something described counts, and each byte of its name, found or not.
struct DescriptionBudget {
  private var visitCount = 0
  private var nameByteCount = 0

  /// Pays for a look at one element or structure.
  ///
  /// - Parameters:
  ///   - nameByteCount: the length of its name with those of all that it is in.
  ///   - place: where it is, for the error.
  mutating func visit(
    nameByteCount: Int, at place: @autoclosure () -> StreamPlace
  ) throws(QEMUStreamError) {
    visitCount += 1
    self.nameByteCount += nameByteCount
    try Self.check(visitCount, StreamLimits.descriptionVisitCount, place)
    try Self.check(self.nameByteCount, StreamLimits.descriptionNameByteCount, place)
  }

  private static func check(
    _ value: Int, _ limit: Int, _ place: () -> StreamPlace
  ) throws(QEMUStreamError) {
    guard value <= limit else { throw .beyondLimit(place(), value: UInt64(value), limit: UInt64(limit)) }
  }
}
