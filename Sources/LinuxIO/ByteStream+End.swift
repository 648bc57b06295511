import Glibc

extension ByteStream {
  /// Where bytes come from or go to.
  struct End: ~Copyable, Sendable {
    let descriptor: FileDescriptor
    /// A socket is asked call by call not to wait and to raise no signal, other than by its page pipe.
    let isSocket: Bool
    /// How a unix socket sends in place.
    private var pagePipe: PagePipe?
    var hasPagePipe: Bool { pagePipe != nil }

    init(descriptor: consuming FileDescriptor, isSocket: Bool) {
      self.descriptor = descriptor
      self.isSocket = isSocket
    }

    static func make(_ descriptor: consuming FileDescriptor?) throws(LinuxError) -> End? {
      guard let descriptor else { return nil }
      let isSocket = try descriptor.status.kind == .socket
      if !isSocket { try descriptor.setBlocking(false) }
      return End(descriptor: descriptor, isSocket: isSocket)
    }

    mutating func startPagePipe() throws(LinuxError) {
      if pagePipe == nil { pagePipe = try PagePipe(into: descriptor) }
    }

    func shutDown() {
      // It fails only when the peer was quicker.
      if isSocket { shutdown(descriptor.rawValue, Int32(SHUT_RDWR)) }
    }

    func send(
      _ vectors: borrowing IOVectors, _ descriptors: [Int32], _ ledger: ZeroCopyLedger, until deadline: Deadline,
      unless cancellation: Cancellation?
    ) throws(LinuxError) -> Int {
      let (number, isSocket) = (descriptor.rawValue, isSocket)
      return try withoutBrokenPipeSignal(isPossible: !isSocket) { () throws(LinuxError) in
        try transfer(
          isSocket ? "sendmsg" : "writev", byteCount: vectors.totalByteCount, descriptor: number, events: POLLOUT,
          until: deadline, unless: cancellation, settling: ledger
        ) { (done) in
          unsafe vectors.withElements(from: done) {
            isSocket
              ? unsafe SocketMessage.send($0, $1, descriptors: done == 0 ? descriptors : [], on: number)
              : unsafe writev(number, $0, Int32($1))
          }
        }
      }
    }

    /// Without a copy, where that has been started, but for what the kernel has no room to note.
    mutating func sendInPlace(
      _ vectors: borrowing IOVectors, _ ledger: ZeroCopyLedger, until deadline: Deadline,
      unless cancellation: Cancellation?
    ) throws(LinuxError) -> Int {
      if hasPagePipe { return try sendThroughPipe(vectors, ledger, until: deadline, unless: cancellation) }
      guard ledger.isUsed else { return try send(vectors, [], ledger, until: deadline, unless: cancellation) }
      let number = descriptor.rawValue
      return try transfer(
        "sendmsg", byteCount: vectors.totalByteCount, descriptor: number, events: POLLOUT, until: deadline,
        unless: cancellation, settling: ledger
      ) { (done) in
        ledger.settle(number)
        return unsafe vectors.withElements(from: done) { (elements, count) in
          let sent = ledger.note { unsafe SocketMessage.sendInPlace(elements, count, on: number) }
          guard sent < 0, errno == ENOBUFS else { return sent }
          let copied = unsafe SocketMessage.send(elements, count, descriptors: [], on: number)
          if copied > 0 { ledger.noteRefusal(copied) }
          return copied
        }
      }
    }

    private mutating func sendThroughPipe(
      _ vectors: borrowing IOVectors, _ ledger: ZeroCopyLedger, until deadline: Deadline,
      unless cancellation: Cancellation?
    ) throws(LinuxError) -> Int {
      let number = descriptor.rawValue
      return try withoutBrokenPipeSignal { () throws(LinuxError) in
        try transfer(
          "splice", byteCount: vectors.totalByteCount, descriptor: number, events: POLLOUT, until: deadline,
          unless: cancellation
        ) { (done) in
          let sent = unsafe vectors.withElements(from: done) { (elements, count) in
            unsafe pagePipe?.send(elements, count, into: number) ?? 0
          }
          if sent > 0 { ledger.noteUncopied(sent) }
          return sent
        }
      }
    }

    func waitUntilReadable(
      _ ledger: ZeroCopyLedger, until deadline: Deadline, unless cancellation: Cancellation?
    ) throws(LinuxError) -> Bool {
      try wait(for: POLLIN, on: descriptor.rawValue, until: deadline, unless: cancellation, settling: ledger)
    }

    func receive(
      _ vectors: borrowing IOVectors, _ ledger: ZeroCopyLedger, until deadline: Deadline,
      unless cancellation: Cancellation?
    ) throws(LinuxError) -> Int {
      let (number, isSocket) = (descriptor.rawValue, isSocket)
      return try transfer(
        isSocket ? "recvmsg" : "readv", byteCount: vectors.totalByteCount, descriptor: number, events: POLLIN,
        until: deadline, unless: cancellation, settling: ledger
      ) { (done) in
        unsafe vectors.withElements(from: done) {
          isSocket ? unsafe SocketMessage.receive($0, $1, on: number) : unsafe readv(number, $0, Int32($1))
        }
      }
    }

    /// From a socket, with the descriptors that come along.
    func receive(
      _ vectors: borrowing IOVectors, _ list: inout DescriptorList, most: Int, until deadline: Deadline,
      unless cancellation: Cancellation?
    ) throws(LinuxError) -> Int {
      let number = descriptor.rawValue
      let most = min(most, SocketMessage.largestDescriptorCount)
      return try transfer(
        "recvmsg", byteCount: vectors.totalByteCount, descriptor: number, events: POLLIN, until: deadline,
        unless: cancellation
      ) { (done) throws(LinuxError) in
        let room = most - list.count
        let (result, lost) = unsafe vectors.withElements(from: done) {
          unsafe SocketMessage.receive($0, $1, appendingTo: &list, room: room, on: number)
        }
        if lost { throw LinuxError(call: "recvmsg", number: EMSGSIZE) }
        return result
      }
    }
  }
}
