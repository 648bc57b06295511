# What the checks of network cards share: the back-end, and what guests are given to use one. Sourced after lib.sh.
# The back-end is `virtiokit net`, or the command that the option --backend names, which gets the same options behind it.
. "$(dirname "${BASH_SOURCE[0]}")/guests.sh"
backend= arguments=("$@") parts=()
while [ $# -gt 0 ]; do
  case $1 in
  --backend) backend=$2; shift 2 ;;
  -*) echo "$check: the only option is --backend COMMAND" >&2; exit 2 ;;
  *) parts+=("$1"); shift ;;
  esac
done

# make_backend: builds the back-end unless another was named.
make_backend() {
  [ -z "$backend" ] || return 0
  build virtiokit
  backend="$program net"
}

# serve SOCKET... -- OPTION...: starts the back-end with those sockets and options.
serve() {
  local sockets=() words=()
  while [ "$1" != -- ]; do sockets+=("$1") words+=(--socket-path "$1"); shift; done
  shift
  start_server "$backend ${words[*]} $*" "${sockets[@]}"
}

# own_network: goes on in a network of its own, where nobody else's devices and addresses are and from which nothing stays.
own_network() {
  [ -z "${VIRTIOKIT_NETWORK:-}" ] || { ip link set lo up; return 0; }
  [ -w /dev/net/tun ] || { echo "$check: needs /dev/net/tun" >&2; exit 77; }
  local command=(unshare --net)
  [ "$(id -u)" = 0 ] || command=(unshare --net --map-root-user)
  "${command[@]}" true 2>/dev/null || { echo "$check: needs a network namespace: unshare --net" >&2; exit 77; }
  rm -rf "$work"
  VIRTIOKIT_NETWORK=own exec "${command[@]}" "$0" ${arguments[@]+"${arguments[@]}"}
}

# add_tap NAME [OPTION...]: a TAP device that is up.
add_tap() {
  ip tuntap add dev "$1" mode tap vnet_hdr "${@:2}" || fail "no TAP device $1"
  ip link set "$1" up
}

# address NAME NUMBER: gives the host's end of a cable its addresses, 10.8.NUMBER.1 and fd08:NUMBER::1.
address() {
  ip addr replace "10.8.$2.1/24" dev "$1"
  ip addr replace "fd08:$2::1/64" dev "$1" nodad
}

# answer BYTES: answers guests, on all addresses: port 7100 gives so much random data and its sum, port 7101 answers so much
# of what it got with its sum.
answer() {
  head -c "$1" /dev/urandom >"$work/data"
  sha256sum <"$work/data" | cut -d ' ' -f 1 >>"$work/data"
  printf '#!/bin/sh\nhead -c %d | sha256sum\n' "$1" >"$work/answer"
  chmod +x "$work/answer"
  socat TCP6-LISTEN:7100,fork,reuseaddr,ipv6only=0 "OPEN:$work/data,rdonly!!OPEN:/dev/null" &
  children+=($!)
  socat TCP6-LISTEN:7101,fork,reuseaddr,ipv6only=0 "EXEC:$work/answer" &
  children+=($!)
}

# same_sum WHAT SENT GOT: both are the one same sum.
same_sum() {
  [ -n "$2" ] && [ "$2" = "$3" ] || fail "$1: sent '$2', got '$3'"
}

# no_malformed FILE: each packet of a capture can be taken apart. Streams are not put together: TCP may repeat itself.
no_malformed() {
  tshark -Q -o tcp.desegment_tcp_streams:FALSE -o tcp.analyze_sequence_numbers:FALSE -r "$1" -Y '_ws.malformed || _ws.short' \
    >"$work/malformed" || fail "tshark cannot read $1"
  [ ! -s "$work/malformed" ] || { head -n 20 "$work/malformed" >&2; fail "$1 has malformed packets"; }
}

# all_done FILE: no packet of a capture has a checksum or a cut into segments left undone, and none is larger than a cable takes.
all_done() {
  local sums=(-o ip.check_checksum:TRUE -o tcp.check_checksum:TRUE -o udp.check_checksum:TRUE)
  tshark -Q "${sums[@]}" -r "$1" -Y 'ip.checksum.status == 0 || tcp.checksum.status == 0 || udp.checksum.status == 0 ||
    icmp.checksum.status == 0 || frame.len > 1514' >"$work/undone" || fail "tshark cannot read $1"
  [ ! -s "$work/undone" ] || { head -n 20 "$work/undone" >&2; fail "$1 has packets with work left to do"; }
}

# packets FILE FILTER: how many packets of a capture are so.
packets() { tshark -Q -r "$1" -Y "$2" -T fields -e frame.number | wc -l; }
