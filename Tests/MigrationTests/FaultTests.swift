import Glibc
import GuestRAM
import LinuxIO
import Support
import Testing

@testable import Migration

@Suite("Migration: faults") struct FaultTests {
  /// Short, as some faults leave both sides waiting.
  private let limits = DestinationLimits(mostMemory: 16 << 20, time: .milliseconds(150))

  /// One guest for all faults: every failed move must leave it as it was.
  private func messageCounts(_ guest: SampleGuest) throws -> (source: Int, destination: Int) {
    let links = try TestLinks()
    #expect(try move(guest, over: links).source.error == nil)
    return (links.source.messageCount, links.destination.messageCount)
  }

  @Test("whatever happens to a message of the source, at most one side runs", arguments: Fault.allCases)
  func sourceMessages(fault: Fault) throws {
    let guest = try SampleGuest()
    let contents = try SampleGuest.contents(guest.memory)
    let count = try messageCounts(guest).source
    for index in fault.places(among: count) {
      let links = try TestLinks(source: fault.tamper(at: index))
      let move = try move(guest, over: links, limits: limits)
      let isCommit = index == count - 1
      move.checkOneRuns(isLastWord: isCommit, "\(fault) of the source's message \(index)")
      // The last message before the commit arrives whole with these two, so the source may have sent the commit before
      // it meets the fault, and not hear of it in time.
      let mayMeetCommit = index == count - 2 && [.cutAfter, .repeated].contains(fault)
      if !isCommit && !mayMeetCommit { #expect(move.source.error?.sourceMayRun == true) }
    }
    #expect(try SampleGuest.contents(guest.memory) == contents)
  }

  @Test("whatever happens to a message of the destination, at most one side runs", arguments: Fault.allCases)
  func destinationMessages(fault: Fault) throws {
    let guest = try SampleGuest()
    let contents = try SampleGuest.contents(guest.memory)
    let count = try messageCounts(guest).destination
    for index in fault.places(among: count) {
      let links = try TestLinks(destination: fault.tamper(at: index))
      let move = try move(guest, over: links, limits: limits)
      move.checkOneRuns(isLastWord: index >= count - 2, "\(fault) of the destination's message \(index)")
    }
    #expect(try SampleGuest.contents(guest.memory) == contents)
  }

  @Test("if the last acknowledgement is lost, the destination has the guest and the source must not run")
  func lostAcknowledgement() throws {
    let guest = try SampleGuest()
    let last = try messageCounts(guest).destination - 1
    let links = try TestLinks(destination: { (index, _) in index == last ? [.shutDown] : nil })
    let move = try move(guest, over: links)
    #expect(move.destination.error == nil)
    #expect(move.source.error == .outcomeUnknown(MigrationError.peerGone.description))
  }

  @Test("if the commit is lost, nobody runs by itself: the source cannot know")
  func lostCommit() throws {
    let guest = try SampleGuest()
    let last = try messageCounts(guest).source - 1
    let links = try TestLinks(source: { (index, _) in index == last ? [.shutDown] : nil })
    let move = try move(guest, over: links)
    #expect(move.destination.error == .peerGone)
    #expect(move.source.error?.sourceMayRun == false)
  }

  @Test("if the sending of the commit is called off, the guest has not been given away; after all else nobody knows")
  func unsentCommit() throws {
    let guest = try SampleGuest()
    let last = try messageCounts(guest).source - 1
    for (number, mayRun) in [(ECANCELED, true), (ETIMEDOUT, false), (EIO, false)] {
      let links = try TestLinks(source: { (index, _) in
        index == last ? [.fail(LinuxError(call: "sendmsg", number: number))] : nil
      })
      let move = try move(guest, over: links)
      #expect(move.source.error?.sourceMayRun == mayRun)
      #expect(move.destination.error == .peerGone)
    }
  }

  @Test("if the commit arrives damaged, the destination says so and the source may run")
  func damagedCommit() throws {
    let guest = try SampleGuest()
    let last = try messageCounts(guest).source - 1
    let links = try TestLinks(source: { (index, message) in
      index == last ? [.send(message.map { $0 ^ 1 })] : nil
    })
    let move = try move(guest, over: links)
    #expect(move.destination.error == .damagedFrame(nil))
    #expect(move.source.error == .peerFailed(MigrationError.damagedFrame(nil).description))
  }

  @Test("damaged page data is named by its pages when it arrives")
  func damagedPages() throws {
    let guest = try SampleGuest()
    let links = try TestLinks(source: { (_, message) in
      message.count < Frame.mostPageData ? nil : [.send([message[0] ^ 1] + message.dropFirst())]
    })
    let move = try move(guest, over: links)
    let range = GuestRange(start: pages(0x40000 + 100, 1).start, byteCount: UInt64(Frame.mostPageData))
    #expect(move.destination.error == .damagedPages(range))
    #expect(move.source.error == .peerFailed(MigrationError.damagedPages(range).description))
  }

  @Test("a peer that falls silent is an error after the time limit, on either side")
  func silence() throws {
    let links = try TestLinks()
    let guest = try SampleGuest()
    let sent = outcome { () throws(MigrationError) in
      try Source(links.source, producer: "", timeLimit: .milliseconds(50)).move(guest.memory, state: [])
    }
    #expect(sent.error == .peerStalled)
    let quiet = try TestLinks()
    let received = outcome { () throws(MigrationError) in
      var destination = Destination(
        quiet.destination, producer: "", limits: DestinationLimits(mostMemory: 1, time: .milliseconds(50)))
      return try destination.receive()
    }
    #expect(received.error == .peerStalled)
  }

  @Test("a peer that stops reading does not hold the source for ever")
  func fullConnection() throws {
    let links = try TestLinks()
    let guest = try SampleGuest()
    // Enough of an answer to be sent pages, and not a byte read.
    var peer = FrameStream(links.destination, limit: patience)
    try peer.open(Hello(.destination, producer: ""))
    try peer.send(.accept)
    let sent = outcome { () throws(MigrationError) in
      try Source(links.source, producer: "", timeLimit: .milliseconds(50)).move(guest.memory, state: [])
    }
    #expect(sent.error == .peerStalled)
  }
}
