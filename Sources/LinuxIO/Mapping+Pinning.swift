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
  /// All of these bytes count against `RLIMIT_MEMLOCK` from now on, touched or not, unless the process has
  /// `CAP_IPC_LOCK`: `ENOMEM` or `EPERM` is thrown where that is too little, and nothing is pinned then.
  ///
  /// This is for memory of this process alone.
  /// - Parameter bytes: of the mapping, whole pages but for its end.
  public func pin(_ bytes: Range<Int>) throws(LinuxError) {
    precondition(!isShared, "it takes the file to give back memory of a file that is pinned")
    try lock(bytes, as: .anonymous)
  }

  /// The same for a shared mapping, of this file.
  public func pin(_ bytes: Range<Int>, of file: borrowing FileDescriptor) throws(LinuxError) {
    precondition(isShared)
    try lock(bytes, as: .file(PinnedFile(try file.duplicate())))
  }

  private func lock(_ bytes: Range<Int>, as pin: Pin) throws(LinuxError) {
    precondition(bytes.lowerBound >= 0 && bytes.upperBound <= byteCount)
    // First, for whoever gives pages back meanwhile: the way that pinned ones go, others go too.
    let earlier = pinning.withLock { (current) in
      defer { current = pin }
      return current
    }
    do throws(LinuxError) {
      _ = try retrying("mlock2") {
        unsafe mlock2(base + bytes.lowerBound, bytes.count, UInt32(CLINUX_MLOCK_ONFAULT))
      }
    } catch {
      pinning.withLock { $0 = earlier }
      throw error
    }
  }

  /// Lets pages go to swap again, whichever were pinned.
  public func unpin() throws(LinuxError) {
    _ = try retrying("munlock") { unsafe munlock(base, byteCount) }
    pinning.withLock { $0 = .none }
  }

  /// Whether some of its pages are pinned.
  public var isPinned: Bool {
    if case .none = pinning.withLock({ $0 }) { false } else { true }
  }

  /// Gives the memory behind pages back, by the call that does it for a mapping like this.
  ///
  /// Of pinned memory the kernel takes nothing back by `MADV_DONTNEED` or `MADV_REMOVE` (`EINVAL`); of a file's it takes a
  /// page out of the file all the same, pinned in whichever mapping.
  func giveBack(at offset: Int, byteCount: Int) throws(LinuxError) {
    let pin = pinning.withLock { $0 }
    do throws(LinuxError) {
      try giveBack(at: offset, byteCount, as: pin)
    } catch {
      // Somebody may have pinned them in between.
      guard error.number == EINVAL, case .none = pin, isPinned else { throw error }
      try giveBack(at: offset, byteCount, as: pinning.withLock { $0 })
    }
  }

  private func giveBack(at offset: Int, _ byteCount: Int, as pin: Pin) throws(LinuxError) {
    switch pin {
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
