/// A section of a stream, or a part of one: the state of one device, or of something else of the machine.
public struct StreamSection: Equatable, Sendable {
  public enum Kind: Equatable, Sendable {
    /// The whole section.
    case full
    /// The first, a further and the last part of one that is sent in parts.
    case start, part, end
  }

  public let kind: Kind
  /// Its number, by which only this stream knows it.
  public let id: UInt32
  /// The device's place in the machine and its name, such as `0000:00:01.0/virtio-blk`.
  public let name: String
  /// Which of several of the name.
  public let instance: UInt32
  public let version: UInt32
  /// Where the section begins in the stream.
  public let offset: UInt64
  /// Where what it holds begins.
  public let bodyOffset: UInt64
  public let body: [UInt8]
  /// What it holds, value by value: of virtio as this code knows it, of others as the stream describes itself, and one
  /// field `data` of those that it does not describe.
  ///
  /// Elements of QEMU's arrays of 1024 queues that are all zero are left out.
  public internal(set) var fields: [StreamField] = []

  /// `name` or `name/instance`: how errors call the section.
  public var label: String { instance == 0 ? name : "\(name)/\(instance)" }

  /// What no two sections of a stream have in common.
  struct Key: Hashable {
    let name: String
    let instance: UInt32
  }

  var key: Key { Key(name: name, instance: instance) }
}
