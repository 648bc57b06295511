import Glibc

/// A bounded list of memory ranges, lent to the kernel for one transfer.
///
/// Whoever fills it vouches for the memory; everybody else can only pass it on. One value serves any number of
/// transfers without allocating: `removeAll()`, then append again.
@safe public struct IOVectors: ~Copyable {
  /// The most ranges that the kernel takes in one call (`IOV_MAX`).
  public static let largestCapacity = 1024

  // SAFETY: allocated in init, freed in deinit; its first `count` elements are initialised.
  private let elements: UnsafeMutablePointer<iovec>
  /// How many ranges fit.
  public let capacity: Int
  /// How many ranges there are.
  public private(set) var count = 0
  /// The sum of the ranges' lengths, in bytes.
  public private(set) var totalByteCount = 0

  /// Makes an empty list.
  /// - Parameter capacity: how many ranges it can hold, 1...`largestCapacity`; anything else is brought into bounds.
  public init(capacity: Int = largestCapacity) {
    self.capacity = min(max(capacity, 1), Self.largestCapacity)
    unsafe elements = .allocate(capacity: self.capacity)
  }

  deinit {
    unsafe elements.deallocate()
  }

  /// Adds a range. The caller keeps the memory mapped until the list is emptied or gone.
  /// - Returns: false, with nothing added, when the list is full or the total would not fit an `Int`.
  @unsafe public mutating func append(_ base: UnsafeMutableRawPointer, byteCount: Int) -> Bool {
    let (total, overflow) = totalByteCount.addingReportingOverflow(byteCount)
    guard count < capacity, byteCount >= 0, !overflow else { return false }
    unsafe (elements + count).initialize(to: iovec(iov_base: base, iov_len: byteCount))
    count += 1
    totalByteCount = total
    return true
  }

  /// Empties the list and keeps its storage.
  public mutating func removeAll() {
    count = 0
    totalByteCount = 0
  }

  /// Takes off the front what a short transfer has moved; the whole list when `byteCount` is more than there is.
  public mutating func dropFirst(_ byteCount: Int) {
    let (index, offset) = position(of: byteCount)
    unsafe elements.update(from: elements + index, count: count - index)
    count -= index
    totalByteCount -= min(max(byteCount, 0), totalByteCount)
    if count > 0 { unsafe elements[0].dropFirst(offset) }
  }

  /// The range that holds the byte at `byteOffset`, and where in it that byte is; `count` and 0 from the end on.
  private func position(of byteOffset: Int) -> (index: Int, offset: Int) {
    var rest = max(byteOffset, 0)
    for index in 0..<count {
      let length = unsafe elements[index].iov_len
      if rest < length { return (index, rest) }
      rest -= length
    }
    return (count, 0)
  }

  /// Lends the ranges from `byteOffset` on to a system call.
  ///
  /// The first of them is shortened in place for the call and restored after it, so that a transfer in several
  /// steps neither copies the list nor needs to change it.
  @unsafe func withElements<Result, Failure: Error>(
    from byteOffset: Int, _ body: (UnsafeMutablePointer<iovec>, Int) throws(Failure) -> Result
  ) throws(Failure) -> Result {
    let (index, offset) = position(of: byteOffset)
    guard index < count, offset > 0 else { return try unsafe body(elements + index, count - index) }
    let whole = unsafe elements[index]
    unsafe elements[index].dropFirst(offset)
    defer { unsafe elements[index] = whole }
    return try unsafe body(elements + index, count - index)
  }
}

extension iovec {
  fileprivate mutating func dropFirst(_ byteCount: Int) {
    unsafe iov_base += byteCount
    unsafe iov_len -= byteCount
  }
}
