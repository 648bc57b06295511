# What the checks of block devices share: the back-end, its image, and real kernels that use it. Sourced after lib.sh.
# The back-end is `virtiokit blk`, or a command that the option --backend names, in which @SOCKET@, @IMAGE@, @FORMAT@ and
# @CONTROL@ stand for what the check uses; `--backend stand-in` is qemu-storage-daemon.
. "$(dirname "${BASH_SOURCE[0]}")/guests.sh"
socket=$work/socket control=$work/control
backend= parts=()
while [ $# -gt 0 ]; do
  case $1 in
  --backend) backend=$2; shift 2 ;;
  -*) echo "$check: the only option is --backend COMMAND" >&2; exit 2 ;;
  *) parts+=("$1"); shift ;;
  esac
done
case $backend in
'')
  build virtiokit
  backend="$program blk --socket-path @SOCKET@ --image @IMAGE@ --control @CONTROL@"
  # Not in every build of it.
  if "$program" blk --help | grep -q qcow2; then backend="$backend --format @FORMAT@"; fi
  ;;
stand-in) need qemu-storage-daemon qemu-utils; backend="$here/stand-in-blk @SOCKET@ @IMAGE@ @FORMAT@ num-queues=2" ;;
esac

# A back-end that is not told a format serves raw images.
formats=(raw)
case $backend in *@FORMAT@*) formats+=(qcow2) ;; *) echo "$check: SKIPPED: qcow2: not offered by this back-end" ;; esac

# serve IMAGE [FORMAT]: starts the back-end, in a process group of its own, and waits for its socket.
serve() {
  local command=$backend
  command=${command//@SOCKET@/$socket}
  command=${command//@IMAGE@/$1}
  command=${command//@FORMAT@/${2:-raw}}
  command=${command//@CONTROL@/$control}
  start_server "$command" "$socket"
}

# control WORD...: one command to our back-end.
control() { "$program" ctl --control "$control" "$@"; }

allocated_kib() {
  # A file system may give what has just been written its place only now.
  sync "$1"
  echo $(($(stat -c '%b * %B' "$1") / 1024))
}

# boot_uml INITRD: a User-Mode Linux guest with the back-end's disk.
boot_uml() { start_uml "$1" quiet virtio_uml.device="$socket:2"; }

# boot_qemu INITRD [DEVICE-OPTIONS]: a QEMU guest with the back-end's disk.
boot_qemu() {
  start_qemu "$1" -chardev "socket,id=disk,path=$socket,reconnect=1" -device "vhost-user-blk-pci,chardev=disk${2:+,$2}"
}

# flat IMAGE FORMAT: sets `raw` to a raw image with the same content.
flat() {
  raw=$1
  [ "$2" = raw ] || { raw=$work/flat.img; qemu-img convert -f "$2" -O raw "$1" "$raw" || fail "qemu-img cannot read $1"; }
}

# sound_file_system IMAGE: e2fsck finds nothing, and the files are those whose sums the guest printed.
sound_file_system() {
  e2fsck -fn "$1" >"$work/e2fsck" 2>&1 || { cat "$work/e2fsck" >&2; fail "e2fsck found the file system not clean"; }
  rm -rf "$work/files"
  mkdir "$work/files"
  debugfs -R "rdump / $work/files" "$1" >/dev/null 2>&1
  said sum >"$work/sums"
  [ -s "$work/sums" ] || fail "the guest printed no sums"
  (cd "$work/files" && sha256sum --quiet -c "$work/sums") || fail "the image does not hold the guest's files"
}

shrunk() { [ "$(allocated_kib "$1")" -le "$2" ]; }

# blk_files FORMAT IMAGE: goes with a guest that runs guest/blk-files from its start to its end.
blk_files() {
  local written trimmed discarded
  await 120 written
  written=$(allocated_kib "$2")
  go_on written
  await 60 trimmed
  trimmed=$(allocated_kib "$2")
  go_on trimmed
  await 60 discarded
  # The guest's kernel discards when it finds the time.
  wait_for 30 shrunk "$2" $((trimmed - 7 * 1024)) || true
  discarded=$(allocated_kib "$2")
  go_on discarded
  end_of_guest 120
  stop_server
  [ "$(said requests | awk '{ print $16 }')" -gt 0 ] || guest_failed "$1: nothing was flushed"
  pass "$1: $(said requests | awk '{ print $1 " reads, " $5 " writes, " $12 " discards, " $16 " flushes" }'), checksums right"
  [ "$trimmed" -le $((written - 11 * 1024)) ] || fail "$1: fstrim of 12 MiB: $written KiB to $trimmed KiB only"
  [ "$discarded" -le $((trimmed - 7 * 1024)) ] || fail "$1: discard of 8 MiB: $trimmed KiB to $discarded KiB only"
  pass "$1: image of $written KiB, $trimmed after fstrim, $discarded after files went with -o discard"
  [ "$1" = raw ] || qemu-img check -q -f "$1" "$2" || fail "$1: qemu-img check"
  flat "$2" "$1"
  sound_file_system "$raw"
  [ "$(said whole)" = "$(sha256sum <"$raw")" ] || fail "$1: the image is not what the guest read"
  pass "$1: file system clean, files and whole disk as the guest saw them"
}

# rounds: how often the slowest of the guest's writers has been round.
rounds() { said round | tail -n 1 | tr ' ' '\n' | grep . | sort -n | head -n 1 | grep . || echo 0; }
# await_rounds SECONDS NUMBER: until each of the guest's writers has done so many more.
await_rounds() {
  local end
  more_rounds() { ! kill -0 "$guest" || grep -q '^guest-\(failed\|exit\)' "$console" || [ "$(rounds)" -ge "$1" ]; }
  end=$(($(rounds) + $2))
  wait_for "$1" more_rounds "$end" && [ "$(rounds)" -ge "$end" ] || guest_failed "no $2 rounds more in $1 s"
}
# sound_blocks IMAGE: the raw blocks are those whose sums the guest printed.
sound_blocks() {
  local at sum
  [ -n "$(said block)" ] || fail "the guest named no blocks"
  while read -r at sum; do
    [ "$(dd if="$1" bs=64k skip="$at" count=1 2>/dev/null | sha256sum)" = "$sum" ] || fail "the image has other data in block $at"
  done < <(said block)
}
