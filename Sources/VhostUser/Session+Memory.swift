import GuestRAM
import LinuxIO
import VirtioCore

/// The memory table.
extension Session where Device: ~Copyable {
  /// Maps a new table in place of the one before; running rings go on in it.
  func setMemoryTable(_ message: inout Message) throws(VhostUserError) {
    let regions = try message.memoryRegions()
    guard regions.count == message.descriptors.count else {
      throw .wrongDescriptorCount(
        request: message.request, count: message.descriptors.count, expected: regions.count...regions.count)
    }
    let table = try MemoryTable(regions, files: &message.descriptors)
    try host { () throws(HostError) in try device.host.attach(table.memory) }
    self.table = table
    device.memory = table.memory
    report(.attached(table.memory))
  }
}
