import Testing

@testable import Migration

@Suite("Migration: addresses") struct AddressTests {
  @Test(
    "what people write is read, and printed the same",
    arguments: [
      ("unix:/run/move.sock", .unix(path: "/run/move.sock")),
      ("unix:move.sock", .unix(path: "move.sock")),
      ("unix:/odd: name", .unix(path: "/odd: name")),
      ("tcp:host2:4444", .tcp(host: "host2", port: 4444)),
      ("tcp:192.0.2.1:0", .tcp(host: "192.0.2.1", port: 0)),
      ("tcp:[2001:db8::1]:65535", .tcp(host: "2001:db8::1", port: 65535)),
      ("tcp:[fe80::1%eth0]:1", .tcp(host: "fe80::1%eth0", port: 1)),
      ("tcp:[::]:4444", .tcp(host: "::", port: 4444)),
      ("fd:0", .descriptor(0)),
      ("fd:17", .descriptor(17)),
      ("fd:0,1", .descriptors(input: 0, output: 1)),
      ("file:/var/guest.move", .file(path: "/var/guest.move")),
      ("file:a:b", .file(path: "a:b")),
      ("exec:ssh host2 virtiokit: --to tcp:[::1]:2", .command("ssh host2 virtiokit: --to tcp:[::1]:2")),
    ] as [(String, MigrationAddress)])
  func good(text: String, address: MigrationAddress) throws {
    #expect(try MigrationAddress(text) == address)
    #expect(address.description == text)
  }

  @Test(
    "what is no address is an error that says what to write",
    arguments: [
      ("", "exec:COMMAND"), ("/run/move.sock", "unix:PATH"), ("host2:4444", "tcp:HOST:PORT"), ("ssh:host2", "exec:"),
      ("UNIX:/a", "unix:PATH"), ("unix", "unix:PATH"), ("unix:", "at most 107 bytes"),
      ("unix:/" + String(repeating: "é", count: 54), "at most 107 bytes"), ("unix:/a\0b", "unix:PATH"),
      ("tcp:", "HOST:PORT"), ("tcp:host2", "HOST:PORT"), ("tcp:host2:", "HOST:PORT"), ("tcp::4444", "0.0.0.0"),
      ("tcp:host2:65536", "65535"), ("tcp:host2:+80", "65535"), ("tcp:host2:-1", "65535"), ("tcp:host2:http", "65535"),
      ("tcp:2001:db8::1:4444", "[2001:db8::1]"), ("tcp:[host2]:4444", "HOST:PORT"), ("tcp:[::1:4444", "[2001:db8::1]"),
      ("tcp:[]:4444", "HOST:PORT"), ("tcp:a b:1", "HOST:PORT"), ("tcp:[::1]4444", "HOST:PORT"),
      ("fd:", "fd:NUMBER"), ("fd:x", "fd:NUMBER"), ("fd:-1", "fd:NUMBER"), ("fd:+1", "fd:NUMBER"),
      ("fd:1,1", "fd:0,1"), ("fd:1,", "fd:0,1"), ("fd:1,2,3", "fd:0,1"), ("fd:4294967296", "fd:NUMBER"),
      ("file:", "a path"), ("exec:", "a command"), ("exec: \t", "a command"),
    ])
  func bad(text: String, expectation: String) throws {
    do {
      let address = try MigrationAddress(text)
      Issue.record("\(text) was read as \(address)")
    } catch {
      guard case .invalidAddress(text, _) = error else {
        Issue.record("\(text): \(error)")
        return
      }
      #expect(error.description.contains(expectation))
    }
  }
}
