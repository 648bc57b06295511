import Testing
import VirtioBlk

@Suite("NBD address") struct NBDAddressTests {
  @Test(
    "hosts, ports and names are found",
    arguments: [
      ("nbd://disks", "disks", 10809, ""), ("nbd://disks/", "disks", 10809, ""),
      ("nbd://disks:7/a/b", "disks", 7, "a/b"),
      ("nbd://[::1]:99/x", "::1", 99, "x"), ("nbd://[fe80::1]/x", "fe80::1", 10809, "x"),
      ("nbd://127.0.0.1/%61%20%c3%a4", "127.0.0.1", 10809, "a ä"),
    ])
  func hosts(text: String, host: String, port: UInt16, name: String) throws {
    let address = try NBDAddress(parsing: text)
    #expect(address.place == .host(host, port: port))
    #expect(address.exportName == name)
  }

  @Test(
    "socket paths and names are found",
    arguments: [
      ("nbd+unix:///?socket=/run/nbd", "/run/nbd", ""), ("nbd+unix:///a?socket=s", "s", "a"),
      ("nbd+unix://?socket=/x%3fy", "/x?y", ""),
    ])
  func sockets(text: String, path: String, name: String) throws {
    let address = try NBDAddress(parsing: text)
    #expect(address.place == .socket(path: path))
    #expect(address.exportName == name)
  }

  @Test(
    "what is no address is refused as it was given",
    arguments: [
      "", "/disk", "nbd:", "nbd://", "nbd:///x", "nbd://:5/x", "nbd://h:/x", "nbd://h:65536/", "nbd://h:-1/",
      "nbd://h:x",
      "nbd://u@h/", "nbd://h/?socket=/x", "nbd://[::1", "nbd://[::1]5/", "nbd://[]/", "nbd://h/%", "nbd://h/%4",
      "nbd://h/%zz", "nbd://h/%00", "nbd://h/%ff", "nbd+unix:///x", "nbd+unix:///?socket=", "nbd+unix://h/?socket=/x",
      "nbd+unix:///?sock=/x", "nbd://h/" + String(repeating: "x", count: 4097),
    ])
  func illegal(text: String) {
    #expect(throws: NBDError.illegalAddress(text)) { try NBDAddress(parsing: text) }
  }

  @Test("what wants encryption is refused by that name", arguments: ["nbds://h/x", "nbds+unix:///?socket=/x"])
  func encrypted(text: String) {
    #expect(throws: NBDError.encrypted) { try NBDAddress(parsing: text) }
  }

  @Test("an address is told from a path")
  func meant() {
    #expect(NBDAddress.isMeant(by: "nbd+unix:///?socket=x"))
    #expect(NBDAddress.isMeant(by: "nbds://x"))
    #expect(!NBDAddress.isMeant(by: "/dev/nbd0"))
    #expect(!NBDAddress.isMeant(by: "nbd"))
  }
}
