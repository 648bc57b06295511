import Glibc
import LinuxIO
import Synchronization

/// A saved guest's stream, of which page data can be passed over.
final class SavedFile: Channel {
  let file: FileDescriptor
  private let byteCount: Int
  private let next = Atomic(0)

  let hasReturnPath = false

  init(_ path: String) throws(MigrationError) {
    do throws(LinuxError) {
      file = try FileDescriptor.open(path, waits: false)
      let status = try file.status
      byteCount = status.kind == .blockDevice ? try file.measuredByteCount() : status.byteCount
      guard status.kind == .regularFile || status.kind == .blockDevice else {
        throw LinuxError(call: "pread", subject: path, number: ESPIPE)
      }
    } catch {
      throw MigrationError(error)
    }
  }

  /// Where the next byte is taken from.
  var position: Int { next.load(ordering: .relaxed) }

  /// Passes over so many bytes, which must be there.
  func skip(_ count: Int) throws(MigrationError) {
    guard count <= byteCount - position else { throw .peerGone }
    next.store(position + count, ordering: .relaxed)
  }

  func receive(exactly count: Int, within limit: Duration) throws(LinuxError) -> [UInt8]? {
    guard let bytes = try file.readBytes(exactly: count, at: position) else { return nil }
    next.store(position + count, ordering: .relaxed)
    return bytes
  }

  func receive(into vectors: borrowing IOVectors, within limit: Duration) throws(LinuxError) -> Bool {
    throw LinuxError(call: "preadv", number: EOPNOTSUPP)
  }

  func waitUntilReadable(within limit: Duration) throws(LinuxError) -> Bool { true }

  func send(_ bytes: [UInt8], within limit: Duration) throws(LinuxError) {
    throw LinuxError(call: "pwrite", number: EBADF)
  }

  func send(_ vectors: borrowing IOVectors, within limit: Duration) throws(LinuxError) {
    throw LinuxError(call: "pwritev", number: EBADF)
  }
}
