import Glibc
import LinuxIO
import Options

/// What is wrong with a socket that the operator has named, and what to do about it.
enum SocketTrouble: Error, Equatable {
  /// Another program listens at the path that an option names.
  case inUse(path: String, option: String)
  /// The path that an option names is a file of another kind.
  case notASocket(path: String, option: String)
  /// The path that an option names is in a directory that is not there.
  case noDirectory(path: String, option: String)
  case notInherited(Int32)
  case noServer(path: String)
  /// The path at which commands should be taken is a file of another kind.
  case noSocket(path: String)
  case noAnswer(path: String, limit: Duration)
}

extension SocketTrouble {
  /// Why nobody can listen at a path, if it is one of these.
  init?(_ error: LinuxError, listeningAt path: String, option: String) {
    switch error.number {
    case EADDRINUSE: self = .inUse(path: path, option: option)
    case EEXIST: self = .notASocket(path: path, option: option)
    case ENOENT: self = .noDirectory(path: path, option: option)
    default: return nil
    }
  }

  /// Why a server did not answer, if it is one of these.
  init?(_ error: LinuxError, asking path: String, within limit: Duration) {
    switch error.number {
    // A socket cannot be opened like a file.
    case ECONNREFUSED where Self.canBeOpened(path): self = .noSocket(path: path)
    case ENOENT, ECONNREFUSED: self = .noServer(path: path)
    case _ where error.isTimeOut: self = .noAnswer(path: path, limit: limit)
    default: return nil
    }
  }
}

extension SocketTrouble {
  private static func canBeOpened(_ path: String) -> Bool {
    do throws(LinuxError) {
      _ = try FileDescriptor.open(path, waits: false)
      return true
    } catch {
      return false
    }
  }
}

extension SocketTrouble: CustomStringConvertible {
  var description: String {
    switch self {
    case .inUse(let path, let option):
      "another program listens at \(path): end it, or give \(option) another path"
    case .notASocket(let path, let option):
      "\(path) is a file and no socket: remove it, or give \(option) another path"
    case .noDirectory(let path, let option):
      "there is no directory for \(path): make it, or give \(option) another path"
    case .notInherited(let number):
      "descriptor \(number) is no socket that was handed to this program: whoever starts it must leave a connected one "
        + "open under that number, or use --socket-path"
    case .noServer(let path):
      "nobody takes commands at \(path): start the device with --control \(path)"
    case .noSocket(let path): "\(path) is no socket: give --control what the device was started with as --control"
    case .noAnswer(let path, let limit):
      "no answer from \(path) within \(limit.optionText): the device may be busy, which a longer --timeout allows for"
    }
  }
}

/// Listens at the path that an option names.
func listener(at path: String, option: String) throws -> UnixListener {
  do {
    return try UnixListener(path: path)
  } catch {
    throw SocketTrouble(error, listeningAt: path, option: option) ?? error as any Error
  }
}

/// Takes over the socket that this program was started with.
func inheritedSocket(_ number: Int32) throws -> UnixSocket {
  guard fcntl(number, F_GETFD) >= 0 else { throw SocketTrouble.notInherited(number) }
  let descriptor = FileDescriptor(owning: number)
  guard try descriptor.status.kind == .socket else { throw SocketTrouble.notInherited(number) }
  return UnixSocket(owning: descriptor)
}
