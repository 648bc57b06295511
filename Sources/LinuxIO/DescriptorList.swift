/// Descriptors that came with a message; those that nobody takes are closed with the list.
public struct DescriptorList: ~Copyable, Sendable {
  private var numbers: [Int32] = []
  private var takenCount = 0

  /// An empty list.
  public init() {}

  /// How many are left to take.
  public var count: Int { numbers.count - takenCount }
  /// Whether all have been taken.
  public var isEmpty: Bool { count == 0 }

  /// Hands over the descriptors one by one, in the order in which the peer listed them; nil when none is left.
  public mutating func takeFirst() -> FileDescriptor? {
    guard !isEmpty else { return nil }
    defer { takenCount += 1 }
    return FileDescriptor(owning: numbers[takenCount])
  }

  /// Those that are left to take, borrowed from the list.
  public var rawValues: [Int32] { Array(numbers[takenCount...]) }

  /// Takes over a descriptor.
  public mutating func append(_ descriptor: consuming FileDescriptor) {
    numbers.append(descriptor.release())
  }

  deinit {
    for number in numbers[takenCount...] { _ = FileDescriptor(owning: number) }
  }
}
