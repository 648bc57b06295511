/// An unsigned integer as it stands in guest memory: little endian, one to eight bytes.
public protocol GuestInteger: FixedWidthInteger & UnsignedInteger & BitwiseCopyable & Sendable {}

extension UInt8: GuestInteger {}
extension UInt16: GuestInteger {}
extension UInt32: GuestInteger {}
extension UInt64: GuestInteger {}
