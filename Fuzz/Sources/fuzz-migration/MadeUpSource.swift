import FuzzInput
import GuestRAM

/// Writes what a source sends, with a format of its own: if it shared the library's, a wrong one would pass.
struct MadeUpSource {
  /// The numbers of the frames' kinds.
  private enum Kind {
    static let hello: UInt16 = 1
    static let description: UInt16 = 2
    static let plan: UInt16 = 5
    static let pages: UInt16 = 6
    static let state: UInt16 = 7
    static let complete: UInt16 = 8
    static let commit: UInt16 = 12
    static let pass: UInt16 = 14
  }

  private var input: FuzzInput
  private var number: UInt32 = 0
  private var sent = Array("VKMOVE\r\n".utf8) + bytes(of: UInt32(1))
  private var state: [UInt8] = []
  /// What has been planned, as the end of a move has to tell it.
  private var planned = (data: UInt64(0), zero: UInt64(0))
  private var passCount: UInt32 = 0

  private init(_ input: FuzzInput) {
    self.input = input
    add(Kind.hello, [0, 2, 0] + Array("me".utf8))
  }

  // MARK: - Whole streams

  /// A guest of 64 pages in two passes, which is compared and given away.
  static func honest() -> [UInt8] {
    var source = MadeUpSource(FuzzInput([7, 8, 9]))
    source.describe()
    source.addPlannedPages(2, count: 2)
    source.addPlan([(page: 9, pageCount: 1, isZero: true)])
    source.addPass()
    source.addPlannedPages(9, count: 1)
    source.addState([1, 2, 3])
    source.addTrueEnd(isToVerify: 1)
    source.add(Kind.commit, [])
    return source.sent
  }

  /// What a fuzzer's input says, which is mostly nonsense.
  static func madeUp(of input: FuzzInput) -> [UInt8] {
    var source = MadeUpSource(input)
    if source.input.byte() & 3 != 0 { source.describe() }
    while !source.input.isAtEnd, source.sent.count < 100_000 { source.act() }
    return source.sent
  }

  private mutating func act() {
    let choice = input.byte()
    let (isOther, count) = (choice & 8 != 0, 1 + Int(choice >> 3 & 3))
    switch choice & 7 {
    case 0: addPages(input.byte(), count: count)
    case 1: addPlan((0..<count).map { _ in (UInt64(input.byte()), UInt32(input.byte()), input.byte() & 1 == 1) })
    case 2: addState(input.bytes(upTo: Int(input.byte())))
    case 3: choice & 16 != 0 ? addTrueEnd(isToVerify: choice >> 3 & 1) : addEnd(isToVerify: choice >> 3 & 1)
    case 4: isOther ? addPass() : add(Kind.commit, [])
    case 5: sent += input.bytes(upTo: Int(input.byte()))
    case 6: add(UInt16(input.byte()), input.bytes(upTo: Int(input.byte())))
    default: choice & 32 != 0 ? addPlannedPages(input.byte(), count: count) : add(Kind.description, someBytes())
    }
  }

  private mutating func someBytes() -> [UInt8] { input.bytes(upTo: Int(input.byte())) }

  // MARK: - Frames

  /// One region of 64 pages, and no notes.
  private mutating func describe() {
    add(
      Kind.description,
      bytes(of: UInt16(1)) + bytes(of: UInt64(0)) + bytes(of: UInt64(0x40000)) + bytes(of: UInt16(0)))
  }

  private mutating func addPass() {
    passCount &+= 1
    add(Kind.pass, bytes(of: passCount))
  }

  private mutating func addState(_ part: [UInt8]) {
    state += part
    add(Kind.state, part)
  }

  private mutating func addPlan(_ runs: [(page: UInt64, pageCount: UInt32, isZero: Bool)]) {
    for run in runs {
      if run.isZero { planned.zero += UInt64(run.pageCount) } else { planned.data += UInt64(run.pageCount) }
    }
    add(Kind.plan, runs.flatMap { bytes(of: $0.page << 12 | ($0.isZero ? 1 : 0)) + bytes(of: $0.pageCount) })
  }

  /// Pages as they have to come: first announced, then sent.
  private mutating func addPlannedPages(_ page: UInt8, count: Int) {
    addPlan([(UInt64(page), UInt32(count), false)])
    addPages(page, count: count)
  }

  /// Pages of one byte repeated, with the digests that they have.
  private mutating func addPages(_ page: UInt8, count: Int) {
    let data = (0..<count).map { _ in [UInt8](repeating: input.byte(), count: 4096) }
    let digests = data.flatMap { bytes(of: GuestMemory.digest(of: $0)) }
    add(
      Kind.pages, bytes(of: UInt64(page) << 12) + bytes(of: GuestMemory.digest(of: digests)), data.flatMap { $0 })
  }

  /// The end of what was sent, as the destination has to find it.
  private mutating func addTrueEnd(isToVerify: UInt8) {
    addEnd([planned.data, planned.zero, 0, UInt64(state.count)], isToVerify)
  }

  private mutating func addEnd(isToVerify: UInt8) {
    addEnd((0..<3).map { _ in UInt64(input.byte()) } + [UInt64(state.count)], isToVerify)
  }

  /// - Parameter counts: of pages with data, of zeros and of those that follow the guest, and of bytes of state.
  private mutating func addEnd(_ counts: [UInt64], _ isToVerify: UInt8) {
    let words = counts + [GuestMemory.digest(of: state)]
    add(Kind.complete, words.flatMap { bytes(of: $0) } + [isToVerify])
  }

  private mutating func add(_ kind: UInt16, _ payload: [UInt8], _ data: [UInt8] = []) {
    var header = bytes(of: kind) + [0, 0] + bytes(of: number)
    header += bytes(of: UInt32(payload.count)) + bytes(of: UInt32(data.count))
    header += bytes(of: GuestMemory.digest(of: payload))
    sent += header + bytes(of: GuestMemory.digest(of: header)) + payload + data
    number &+= 1
  }
}
