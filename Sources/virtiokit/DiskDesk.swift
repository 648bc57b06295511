import Recording
import VirtioBlk
import VirtioCore

/// What an operator can do with a disk, be it recorded or not.
struct DiskDesk<Disk: VirtioDevice & ~Copyable> {
  var resize: (inout Disk, UInt64) throws(StoreError) -> Void
  /// What there is to say of it; the second is whether a guest is connected.
  var information: (borrowing Disk, Bool) -> DiskInformation
  /// Nothing more will be asked of it.
  var finish: (inout Disk) -> Void
}

extension DiskDesk where Disk == BlockDevice {
  static var plain: DiskDesk {
    DiskDesk { (disk, byteCount) throws(StoreError) in
      try disk.resize(toByteCount: byteCount)
    } information: { disk, isConnected in
      DiskInformation(isConnected: isConnected, disk)
    } finish: { _ in
    }
  }
}

extension DiskDesk where Disk == RecordedDevice<BlockDevice> {
  static var recorded: DiskDesk {
    DiskDesk { (disk, byteCount) throws(StoreError) in
      try disk.resize(toByteCount: byteCount)
    } information: { disk, isConnected in
      DiskInformation(isConnected: isConnected, disk.model)
    } finish: { disk in
      disk.recorder?.finish()
    }
  }
}
