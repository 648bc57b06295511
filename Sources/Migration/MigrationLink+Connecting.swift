import Glibc
public import LinuxIO

extension MigrationLink {
  /// Connects a source to where its guest is to go.
  ///
  /// A file is made if there is none, for its owner alone. A file that holds anything, and a disk, is the error `EEXIST`
  /// unless it may be overwritten. One that was not written to its end is left as it is: no destination takes it.
  /// - Parameters:
  ///   - limit: `peerStalled` is thrown when the peer does not answer for so long. Finding a name's addresses takes as
  ///     long as the resolver takes.
  ///   - overwriting: whether a file or disk may lose what it holds.
  ///   - cancellation: what ends the connection, and the wait for it, from any thread: `cancelled` is thrown then.
  public static func connect(
    to address: MigrationAddress, within limit: Duration, overwriting: Bool = false,
    unless cancellation: Cancellation? = nil
  ) throws(MigrationError) -> MigrationLink {
    switch address {
    case .unix(let path):
      let target = try connecting { () throws(LinuxError) in try SocketAddress.unix(path: path) }
      return try connect(to: [target], address, within: limit, cancellation)
    case .tcp(let host, let port):
      let targets = try connecting { () throws(LinuxError) in try SocketAddress.internet(host: host, port: port) }
      return try connect(to: targets, address, within: limit, cancellation)
    case .file(let path): return try write(path, overwriting: overwriting, cancellation)
    case .descriptor, .descriptors, .command:
      return try open(address, cancellation)
    }
  }

  /// All but sockets, which need a peer that listens, at the side of a destination.
  static func open(
    _ address: MigrationAddress, _ cancellation: Cancellation?
  ) throws(MigrationError) -> MigrationLink {
    switch address {
    case .descriptor(let number): try inherited(number, cancellation)
    case .descriptors(let input, let output): try inherited(input, output, cancellation)
    case .command(let command): try start(command, cancellation)
    case .file(let path): try read(path, cancellation)
    case .unix, .tcp: preconditionFailure("a socket is listened on")
    }
  }

  // MARK: - Sockets

  /// A few frames of pages. More of them would only lie about; and a source could not tell how fast they go.
  private static var bufferByteCount: Int { 4 * Frame.mostPageData }

  private static func connect(
    to targets: [SocketAddress], _ address: MigrationAddress, within limit: Duration, _ cancellation: Cancellation?
  ) throws(MigrationError) -> MigrationLink {
    let end = MonotonicClock.moment(after: limit)
    var failure = MigrationError.peerGone
    for target in targets {
      do throws(MigrationError) {
        let socket = try connecting { () throws(LinuxError) in
          let socket = try Socket(.stream, for: target)
          try socket.connect(to: target, within: MonotonicClock.timeLeft(until: end), unless: cancellation)
          return socket
        }
        return try MigrationLink(address, over: socket, cancellation)
      } catch {
        failure = error
      }
    }
    throw failure
  }

  convenience init(
    _ address: MigrationAddress, over socket: consuming Socket, _ cancellation: Cancellation?
  ) throws(MigrationError) {
    socket.sendAtOnce()
    socket.watchPeer()
    socket.buffer(Self.bufferByteCount)
    do throws(LinuxError) {
      self.init(address, try ByteStream(socket, unless: cancellation))
    } catch {
      throw MigrationError(error)
    }
  }

  private convenience init(
    _ address: MigrationAddress, input: consuming FileDescriptor?, output: consuming FileDescriptor?,
    _ cancellation: Cancellation?
  ) throws(MigrationError) {
    do throws(LinuxError) {
      let stream = try ByteStream(input: input, output: output, unless: cancellation)
      self.init(address, stream)
    } catch {
      throw MigrationError(error)
    }
  }

  // MARK: - Descriptors

  private static func inherited(
    _ number: Int32, _ cancellation: Cancellation?
  ) throws(MigrationError) -> MigrationLink {
    let address = MigrationAddress.descriptor(number)
    let socket = Socket(owning: try connecting { () throws(LinuxError) in try FileDescriptor.inherited(number) })
    guard socket.isStream, socket.isConnected else {
      throw .unsuitable(address, expectation: "the number of a connected stream socket")
    }
    return try MigrationLink(address, over: socket, cancellation)
  }

  private static func inherited(
    _ input: Int32, _ output: Int32, _ cancellation: Cancellation?
  ) throws(MigrationError) -> MigrationLink {
    let address = MigrationAddress.descriptors(input: input, output: output)
    let reading = try connecting { () throws(LinuxError) in try FileDescriptor.inherited(input) }
    let writing = try connecting { () throws(LinuxError) in try FileDescriptor.inherited(output) }
    guard try isEnd(reading, for: .reading), try isEnd(writing, for: .writing) else {
      throw .unsuitable(address, expectation: "a pipe or socket to read from, then one to write to")
    }
    return try MigrationLink(address, input: reading, output: writing, cancellation)
  }

  private static func isEnd(
    _ descriptor: borrowing FileDescriptor, for use: FileDescriptor.Access
  ) throws(MigrationError) -> Bool {
    do throws(LinuxError) {
      let access = try descriptor.access
      return try [.pipe, .socket].contains(descriptor.status.kind) && [use, .readingAndWriting].contains(access)
    } catch {
      throw MigrationError(error)
    }
  }

  // MARK: - Files

  private static func write(
    _ path: String, overwriting: Bool, _ cancellation: Cancellation?
  ) throws(MigrationError) -> MigrationLink {
    let file = try connecting { () throws(LinuxError) in
      try FileDescriptor.open(path, for: .writing, creating: overwriting ? .emptied : .ifMissing, waits: false)
    }
    let status = try fileStatus(of: file, path)
    guard overwriting || status.kind != .blockDevice && status.byteCount == 0 else {
      throw .system(LinuxError(call: "open", subject: path, number: EEXIST))
    }
    return try MigrationLink(.file(path: path), input: nil, output: file, cancellation)
  }

  private static func read(_ path: String, _ cancellation: Cancellation?) throws(MigrationError) -> MigrationLink {
    let file = try connecting { () throws(LinuxError) in try FileDescriptor.open(path, waits: false) }
    _ = try fileStatus(of: file, path)
    return try MigrationLink(.file(path: path), input: file, output: nil, cancellation)
  }

  /// A named pipe would be at its end whenever nobody happens to write to it.
  private static func fileStatus(
    of file: borrowing FileDescriptor, _ path: String
  ) throws(MigrationError) -> FileStatus {
    let status: FileStatus
    do throws(LinuxError) { status = try file.status } catch { throw MigrationError(error) }
    guard status.kind != .pipe else {
      throw .unsuitable(.file(path: path), expectation: "a file or disk; \"exec:cat\" and \"fd:\" go through a pipe")
    }
    return status
  }

  // MARK: - Commands

  private static func start(_ command: String, _ cancellation: Cancellation?) throws(MigrationError) -> MigrationLink {
    try connecting { () throws(LinuxError) in
      let toChild = try FileDescriptor.pipe()
      let fromChild = try FileDescriptor.pipe()
      // It stays in our process group: what it carries us with may have to ask for a password at the terminal.
      let child = try ChildProcess(
        "/bin/sh", ["-c", command],
        streams: .init(
          input: .descriptor(toChild.reading.rawValue), output: .descriptor(fromChild.writing.rawValue)))
      let stream = try ByteStream(input: fromChild.reading, output: toChild.writing, unless: cancellation)
      return MigrationLink(.command(command), stream, child: child)
    }
  }
}
