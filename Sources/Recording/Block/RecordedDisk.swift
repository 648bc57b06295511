public import VirtioBlk
import VirtioCore

extension BlockDevice: RecordableDevice {
  public mutating func obey(_ order: Act) -> Bool {
    guard order.kind == .resize, order.numbers.count == 1, order.numbers[0] % 512 == 0 else { return false }
    do throws(StoreError) {
      try resize(toByteCount: order.numbers[0])
    } catch {
      // The operator heard of it then; the device shows it in what it does.
      return true
    }
    return true
  }
}

extension RecordedDevice where Model == BlockDevice {
  /// A disk that is recorded.
  ///
  /// It has no workers: its own thread waits for the store, so that requests end in an order that can be repeated.
  /// - Parameter report: told why requests fail, once for each new reason.
  public init(
    _ store: any BlockStore, _ options: BlockOptions = BlockOptions(), to sink: RecordingSink,
    report: @escaping (StoreError) -> Void = { _ in }
  ) {
    let recorder = Recorder(of: .block, BlockSetup(options, store), to: sink)
    self.init(
      BlockDevice(RecordedStore(store, recorder: recorder), options, report: report), recorder: recorder)
  }

  /// Gives the disk another size; see `BlockDevice`.
  public mutating func resize(toByteCount byteCount: UInt64) throws(StoreError) {
    try obey(Act(.resize, byteCount)) { (disk) throws(StoreError) in try disk.resize(toByteCount: byteCount) }
  }
}
