import CLinux
import Glibc
import Synchronization

/// Whether a mapping's pages stay in memory once they are there.
enum Pin: Sendable {
  case none
  /// Memory of this process alone.
  case anonymous
  /// That of a file, through which it is given back.
  case file(PinnedFile)
}

final class PinnedFile: Sendable {
  let descriptor: FileDescriptor

  init(_ descriptor: consuming FileDescriptor) {
    self.descriptor = descriptor
  }
}

extension Mapping {
  /// Has pages that have been touched, and those that will be, stay in memory: none goes to swap. What nobody touches
  /// stays without memory, and `discard` gives back what is not needed any more (Linux 5.18).
  ///
  /// All of the mapping counts against `RLIMIT_MEMLOCK` from now on, touched or not, unless the process has
  /// `CAP_IPC_LOCK`: `ENOMEM` or `EPERM` is thrown where that is too little, and nothing is pinned then.
  ///
  /// This is for memory of this process alone.
  public func pin() throws(LinuxError) {
    precondition(!isShared, "it takes the file to give back memory of a file that is pinned")
    try lock(as: .anonymous)
  }

  /// The same for a shared mapping, of this file.
  public func pin(_ file: borrowing FileDescriptor) throws(LinuxError) {
    precondition(isShared)
    try lock(as: .file(PinnedFile(try file.duplicate())))
  }

  private func lock(as pin: Pin) throws(LinuxError) {
    _ = try retrying("mlock2") { unsafe mlock2(base, byteCount, UInt32(CLINUX_MLOCK_ONFAULT)) }
    pinning.withLock { $0 = pin }
  }

  /// Lets pages go to swap again.
  public func unpin() throws(LinuxError) {
    _ = try retrying("munlock") { unsafe munlock(base, byteCount) }
    pinning.withLock { $0 = .none }
  }

  /// Whether its pages are pinned.
  public var isPinned: Bool {
    if case .none = pinning.withLock({ $0 }) { false } else { true }
  }

  /// Gives the memory behind pages back, by the call that does it for a mapping like this.
  ///
  /// Of pinned memory the kernel takes nothing back by `MADV_DONTNEED` or `MADV_REMOVE` (`EINVAL`); of a file's it takes a
  /// page out of the file all the same, pinned in whichever mapping.
  func giveBack(at offset: Int, byteCount: Int) throws(LinuxError) {
    switch pinning.withLock({ $0 }) {
    case .none: try advise(isShared ? Int32(MADV_REMOVE) : Int32(MADV_DONTNEED), at: offset, byteCount)
    case .anonymous: try advise(Int32(CLINUX_MADV_DONTNEED_LOCKED), at: offset, byteCount)
    case .file(let file):
      guard byteCount > 0 else { return }
      let (number, start) = (file.descriptor.rawValue, fileOffset + offset)
      let mode = Int32(CLINUX_FALLOC_FL_PUNCH_HOLE | CLINUX_FALLOC_FL_KEEP_SIZE)
      _ = try retrying("fallocate") { fallocate(number, mode, start, byteCount) }
    }
  }

  private func advise(_ advice: Int32, at offset: Int, _ byteCount: Int) throws(LinuxError) {
    _ = try retrying("madvise") { unsafe madvise(base + offset, byteCount, advice) }
  }
}

/// How much memory this process may pin.
public enum PinLimit {
  /// `RLIMIT_MEMLOCK` in bytes; nil for no limit. A process with `CAP_IPC_LOCK` has none, whatever this says.
  public static var byteCount: UInt64? {
    get throws(LinuxError) {
      var limit = rlimit()
      _ = try retrying("getrlimit") { unsafe getrlimit(Int32(__RLIMIT_MEMLOCK.rawValue), &limit) }
      return limit.rlim_cur == .max ? nil : UInt64(limit.rlim_cur)
    }
  }
}
