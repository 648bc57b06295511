public import DeviceState
public import GuestRAM
public import LinuxIO

/// How our devices go back to QEMU.
public struct ExportOptions: Equatable, Sendable {
  /// Whether the drivers are to be told of what their queues have got since the stream was written: their interrupts wait for
  /// the processors of the machine when it goes on. That needs MSI-X and a PC's local interrupt controllers; a device that has
  /// something to tell and cannot is refused. Off where drivers know, or look by themselves.
  public var notifiesDrivers = true

  public init() {}
}

extension QEMUStream {
  /// Writes a stream of this machine in which it goes on from the state of devices of ours, for QEMU's `-incoming`.
  ///
  /// This stream is the template: it has all of the machine that is not ours, which is taken as it is. Its devices that the
  /// snapshot has not are too. Nothing is written before everything is known to have its place.
  ///
  /// - Parameters:
  ///   - snapshot: devices by their place in the machine, as `importState` names them.
  ///   - memory: the guest's, which takes the place of the template's.
  ///   - layout: where it is, as `readWithMemory` tells.
  ///   - template: this stream once more, from its beginning, for what it has of other memory.
  ///   - output: a file or pipe that blocks.
  public func export(
    _ snapshot: Snapshot, memory: GuestMemory, layout: RAMLayout, template: consuming FileDescriptor,
    to output: borrowing FileDescriptor, options: ExportOptions = ExportOptions()
  ) throws(QEMUStreamError) {
    guard let ramID else { throw .missing("memory") }
    let bodies = try patchedBodies(snapshot, memory, options)
    var ram = ExportedRAM(StreamWriter(self, ramID, memory, layout), try duplicate(output))
    ram.writer.put(head)
    ram.writer.putBlocks()
    let again = try QEMUStream.read(template, ram: &ram)
    guard again.sections == sections else { throw .cannotCarry(device: "template", reason: "it is another stream now") }
    var writer = ram.writer
    try writer.putGuestMemory(to: output)
    for (index, section) in sections.enumerated() { writer.put(section, bodies[index] ?? section.body) }
    writer.put([StreamPart.end])
    writer.putDescription(bodies)
    try writer.finish(to: output)
  }

  private func duplicate(_ output: borrowing FileDescriptor) throws(QEMUStreamError) -> FileDescriptor {
    do throws(LinuxError) { return try output.duplicate() } catch { throw .system(error) }
  }

  /// The bodies of the devices that the snapshot has, by the section's index.
  private func patchedBodies(
    _ snapshot: Snapshot, _ memory: GuestMemory, _ options: ExportOptions
  ) throws(QEMUStreamError) -> [Int: [UInt8]] {
    var bodies: [Int: [UInt8]] = [:]
    var interrupts = InterruptPatcher(sections)
    var carried: Set<String> = []
    for (index, section) in sections.enumerated() {
      guard let device = VirtioSection(section), let model = device.stateSection,
        let saved = try SavedDevice(snapshot, model, device.path)
      else { continue }
      carried.formUnion([saved.model.label, saved.host.label])
      var patcher = DevicePatcher(device, saved, memory, options)
      bodies[index] = try patcher.patchedBody()
      for message in patcher.messages { try interrupts.send(message, of: device.path) }
    }
    bodies.merge(interrupts.bodies) { device, _ in device }
    if let left = snapshot.sections.first(where: { !carried.contains($0.label) && !$0.isOptional }) {
      throw .cannotCarry(device: left.label, reason: "the template has no such device")
    }
    return bodies
  }
}

/// A device of ours in a snapshot.
struct SavedDevice {
  let model: SnapshotSection
  let host: SnapshotSection
  let modelTree: StateTree
  let hostTree: StateTree

  /// Nil when the snapshot does not have it.
  init?(_ snapshot: Snapshot, _ name: String, _ instance: String) throws(QEMUStreamError) {
    func find(_ name: String) -> SnapshotSection? {
      snapshot.sections.first { ($0.name, $0.instance) == (name, instance) }
    }
    guard let model = find(name), let host = find(name + "-host") else { return nil }
    self.model = model
    self.host = host
    do throws(StateError) {
      modelTree = try StateTree(decoding: model.payload)
      hostTree = try StateTree(decoding: host.payload)
    } catch {
      throw .state(error)
    }
  }
}

/// Other memory than the guest's, from the template to the output page by page.
struct ExportedRAM: RAMVisitor, ~Copyable {
  var writer: StreamWriter
  let output: FileDescriptor

  init(_ writer: StreamWriter, _ output: consuming FileDescriptor) {
    self.writer = writer
    self.output = output
  }

  mutating func begin(_ block: RAMBlock, at index: Int, machine: String) throws(QEMUStreamError) {
    guard writer.stream.blocks.indices.contains(index), writer.stream.blocks[index] == block else {
      throw .cannotCarry(device: "template", reason: "it is another stream now")
    }
  }

  mutating func visit(_ page: RAMPage) throws(QEMUStreamError) {
    guard writer.stream.blocks[page.block].name != writer.layout.block else { return }
    writer.put(page)
    try writer.drain(to: output)
  }

  mutating func end() {}
}
