import Recording
import VirtioCore
import VirtioNet

/// What an operator or a front-end can do with a card, be it recorded or not.
struct CardDesk<Card: VirtioDevice & ~Copyable> {
  var setLink: (inout Card, Bool) -> Void
  /// Nil for the card's own address.
  var announce: (inout Card, EthernetAddress?) -> Void
  var setMTU: (inout Card, UInt16) -> Void
  /// What there is to say of it; the second is whether a guest is connected.
  var information: (borrowing Card, Bool) -> NetInformation
  /// Nothing more will be asked of it.
  var finish: (inout Card) -> Void
}

extension CardDesk where Card == NetDevice {
  static var plain: CardDesk {
    CardDesk { card, isUp in
      card.setLink(isUp: isUp)
    } announce: { card, address in
      card.announce(address)
    } setMTU: { card, mtu in
      card.setMTU(mtu)
    } information: { card, isConnected in
      NetInformation(isConnected: isConnected, card)
    } finish: { _ in
    }
  }
}

extension CardDesk where Card == RecordedDevice<NetDevice> {
  static var recorded: CardDesk {
    CardDesk { card, isUp in
      card.setLink(isUp: isUp)
    } announce: { card, address in
      card.announce(address)
    } setMTU: { card, mtu in
      card.setMTU(mtu)
    } information: { card, isConnected in
      NetInformation(isConnected: isConnected, card.model)
    } finish: { card in
      card.recorder?.finish()
    }
  }
}
