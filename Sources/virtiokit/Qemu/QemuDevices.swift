/// What a QEMU's guest has on its PCI buses, and how many processors: the same on both sides, or QEMU cannot load their state,
/// which it would find out only once all of memory had been moved.
struct QemuDevices: Equatable {
  /// Such as "0:04.0 1af4:1002", each with where it is and what it is; behind a bridge "0:1c.0/00.0 1af4:1041".
  var names: [String]

  /// Between names; a note has no line ends.
  private static let separator = "; "

  /// How both sides tell it each other. What is too long for a note is not compared.
  var text: String {
    var text = ""
    for name in names where text.utf8.count + name.utf8.count + Self.separator.utf8.count <= 4096 {
      text += (text.isEmpty ? "" : Self.separator) + name
    }
    return text
  }

  init(text: String) {
    names = text.split(separator: Self.separator).map(String.init)
  }

  /// - Parameters:
  ///   - buses: the answer to `query-pci`.
  ///   - processors: the answer to `query-cpus-fast`.
  init(buses: JSON, processors: JSON) {
    names = ["processors: \(processors.array?.count ?? 0)"]
    for bus in buses.array ?? [] {
      names += Self.names(bus["devices"], after: Self.hexadecimal(bus["bus"], digits: 1) + ":")
    }
    // QEMU names them as they were made.
    names.sort()
  }

  private static func names(_ devices: JSON?, after place: String) -> [String] {
    (devices?.array ?? []).flatMap { (device) -> [String] in
      let place = "\(place)\(hexadecimal(device["slot"], digits: 2)).\(device["function"]?.number ?? 0)"
      let id = device["id"]
      let name = "\(place) \(hexadecimal(id?["vendor"], digits: 4)):\(hexadecimal(id?["device"], digits: 4))"
      // The numbers of buses behind bridges are the guest's to give.
      return [name] + names(device["pci_bridge"]?["devices"], after: place + "/")
    }
  }

  private static func hexadecimal(_ number: JSON?, digits: Int) -> String {
    let text = String(number?.number ?? 0, radix: 16)
    return String(repeating: "0", count: max(0, digits - text.count)) + text
  }

  /// Why a guest cannot come here that has others; nil if it has the same.
  func reason(toRefuse others: QemuDevices) -> String? {
    let (mine, theirs) = (Set(QemuDevices(text: text).names), Set(others.names))
    guard mine != theirs else { return nil }
    func list(_ names: Set<String>) -> String { names.isEmpty ? "none" : names.sorted().joined(separator: ", ") }
    return """
      its devices differ: only there \(list(theirs.subtracting(mine))); only here \(list(mine.subtracting(theirs))): give both \
      QEMUs the same -device options, in the same order, and the same -smp
      """
  }
}

extension QemuMachine {
  /// Nil for a QEMU that does not tell.
  var devices: QemuDevices? {
    do throws(QmpError) {
      return QemuDevices(
        buses: try qmp.execute("query-pci"), processors: try qmp.execute("query-cpus-fast"))
    } catch {
      return nil
    }
  }
}
