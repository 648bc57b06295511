import DeviceState

/// The fixture: a device that does not exist, in two released versions.
struct LampState: SavedState {
  static let section = "lamp"
  static let version = 2

  enum Phase: UInt8, StateValue { case off, glowing, burnt = 9 }

  struct Order: StateRecord {
    var head: UInt16 = 0
    var urgent = false

    mutating func code(with coder: inout some StateCoder) throws(StateError) {
      try coder.field("head", &head)
      try coder.field("urgent", &urgent)
    }
  }

  var phase = Phase.off
  var watts: UInt32 = 0
  var key: [UInt8] = []
  var orders: [Order] = []
  var deadline: UInt64?
  var trim: Int32 = -1

  mutating func code(with coder: inout some StateCoder) throws(StateError) {
    try coder.field("phase", &phase)
    try coder.field("watts", &watts)
    try coder.field("key", &key)
    try coder.field("orders", &orders)
    try coder.field("deadline", &deadline, since: 2, else: nil)
    try coder.field("trim", &trim, since: 2, else: -1)
  }

  /// What the golden bytes of version 1 hold.
  static var first: LampState {
    var state = LampState()
    state.phase = .burnt
    state.watts = 0x0102_0304
    state.key = [0xDE, 0xAD]
    state.orders = [Order(head: 7, urgent: true), Order(head: 0xFFFF, urgent: false)]
    return state
  }

  /// What the golden bytes of version 2 hold.
  static var second: LampState {
    var state = first
    state.deadline = 1 << 40
    state.trim = .min
    return state
  }
}

/// A field of every kind of value.
struct EveryKindState: SavedState {
  static let section = "every kind"
  static let version = 1

  struct Flags: OptionSet, StateValue {
    let rawValue: UInt16
  }

  struct Part: StateRecord {
    var name = ""
    var inner: [LampState.Order]?

    mutating func code(with coder: inout some StateCoder) throws(StateError) {
      try coder.field("name", &name)
      try coder.field("inner", &inner)
    }
  }

  var bool = false
  var u8: UInt8 = 0
  var u16: UInt16 = 0
  var u32: UInt32 = 0
  var u64: UInt64 = 0
  var i32: Int32 = 0
  var i64: Int64 = 0
  var text = ""
  var bytes: [UInt8] = []
  var flags: Flags = []
  var part = Part()
  var maybe: UInt16?
  var twice: UInt16??
  var numbers: [UInt64] = []
  var grid: [[Int32]] = []
  var blobs: [[UInt8]] = []
  var parts: [Part?] = []
  var phases: [LampState.Phase] = []

  mutating func code(with coder: inout some StateCoder) throws(StateError) {
    try coder.field("bool", &bool)
    try coder.field("u8", &u8)
    try coder.field("u16", &u16)
    try coder.field("u32", &u32)
    try coder.field("u64", &u64)
    try coder.field("i32", &i32)
    try coder.field("i64", &i64)
    try coder.field("text", &text)
    try coder.field("bytes", &bytes)
    try coder.field("flags", &flags)
    try coder.field("part", &part)
    try coder.field("maybe", &maybe)
    try coder.field("twice", &twice)
    try coder.field("numbers", &numbers)
    try coder.field("grid", &grid)
    try coder.field("blobs", &blobs)
    try coder.field("parts", &parts)
    try coder.field("phases", &phases)
  }

  static var full: EveryKindState {
    var state = EveryKindState()
    state.bool = true
    state.u8 = .max
    state.u16 = .max
    state.u32 = .max
    state.u64 = .max
    state.i32 = .min
    state.i64 = .min
    state.text = "žluťoučký\u{0}\u{1F40E}"
    state.bytes = Array(0...255)
    state.flags = Flags(rawValue: 0x8001)
    state.part = Part(name: "p", inner: [LampState.Order(head: 3, urgent: true)])
    state.maybe = 5
    state.twice = .some(nil)
    state.numbers = [0, 1, .max]
    state.grid = [[], [-1, 1], [.max]]
    state.blobs = [[], [0xFF]]
    state.parts = [nil, Part(name: "", inner: nil), Part(name: "q", inner: [])]
    state.phases = [.burnt, .off]
    return state
  }
}
