# What the checks with guests share: a back-end in a process of its own, and real kernels that say on their console how they
# fare. Sourced after lib.sh.
here=$root/EndToEnd
use_guest() { keys=$work/$1.keys console=$work/$1.console; }
use_guest guest

# start_server COMMAND SOCKET...: starts the back-end, in a process group of its own, and waits for its sockets.
start_server() {
  local socket
  # A back-end that was killed leaves its socket, and nobody behind it.
  listening() { [ -S "$1" ] && grep -q " 00010000 .* $1\$" /proc/net/unix; }
  setsid setpriv --pdeathsig KILL bash -c "exec $1" </dev/null >>"$work/backend.log" 2>&1 &
  server=$!
  groups+=("$server")
  for socket in "${@:2}"; do
    wait_for 10 listening "$socket" || { cat "$work/backend.log" >&2; fail "no socket from: $1"; }
  done
}

# stop_server: SIGTERM must end it, and well.
stop_server() {
  kill -TERM "$server"
  local status=0
  wait "$server" || status=$?
  [ "$status" -eq 0 ] || { cat "$work/backend.log" >&2; fail "the back-end ended with status $status"; }
}

kill_server() {
  kill -9 "$server"
  wait "$server" 2>/dev/null || true
}

# start_guest COMMAND...: in a process group of its own, since a guest may be several processes.
start_guest() {
  rm -f "$keys"
  mkfifo "$keys"
  # Emptied here and not by the guest's process, before which the caller may look for a line that the last guest said.
  : >"$console"
  setsid setpriv --pdeathsig KILL "$@" <>"$keys" >"$console" 2>&1 &
  guest=$!
  groups+=("$guest")
}

# start_uml INITRD WORD...: a User-Mode Linux guest.
start_uml() {
  local try initrd=$1
  shift
  # This kernel sometimes dies before its first line, mostly on busy machines: then it is started again.
  for try in 1 2 3; do
    start_guest setarch -R linux.uml mem=192M initrd="$initrd" uml_dir="$work" umid="guest${#groups[@]}" con=null \
      con0=fd:0,fd:1 "$@"
    speaks_or_gone() { [ -s "$console" ] || ! kill -0 "$guest"; }
    wait_for 30 speaks_or_gone || true
    [ ! -s "$console" ] || return 0
    kill -9 -- "-$guest" 2>/dev/null || true
    echo "$check: User-Mode Linux ended without a word; started again" >&2
  done
}

# start_qemu INITRD OPTION...: Debian's kernel, in the folder `kernel`, on an emulated processor.
start_qemu() {
  local initrd=$1
  shift
  start_guest ${QEMU:-qemu-system-x86_64} -machine q35,accel=tcg,memory-backend=ram -cpu max -smp 2 -m 192M \
    -object memory-backend-memfd,id=ram,size=192M,share=on -nodefaults -no-user-config -display none -no-reboot \
    -serial stdio -kernel "$kernel"/boot/vmlinuz-* -initrd "$initrd" -append "console=ttyS0 panic=-1 quiet${append:+ $append}" "$@"
}

guest_failed() {
  tail -n 40 "$console" >&2
  [ ! -s "$work/backend.log" ] || tail -n 20 "$work/backend.log" >&2
  fail "$*"
}

# await SECONDS WORD: until the guest has printed guest-WORD at the start of a line.
await() {
  said_or_gone() { grep -q "^guest-$1" "$console" || ! kill -0 "$guest"; }
  wait_for "$1" said_or_gone "$2" || guest_failed "the guest did not get to '$2' in $1 s"
  # What it said last may come after it has gone.
  ! wait_for 2 grep -q "^guest-$2" "$console" || return 0
  local status=0
  wait "$guest" 2>/dev/null || status=$?
  guest_failed "the guest ended before '$2', with status $status"
}

# go_on WORD: lets a guest go on that waits for the line "after WORD". A serial console may lose what comes while the
# guest is busy, so it is said until the guest has heard it.
go_on() {
  local tries=0
  until grep -q "^guest-after $1" "$console"; do
    [ "$tries" -lt 30 ] && kill -0 "$guest" || guest_failed "the guest does not hear 'after $1'"
    # A line end first, for what may be left of a line that was lost in part.
    printf '\nafter %s\n' "$1" >"$keys"
    wait_for 1 grep -q "^guest-after $1" "$console" || tries=$((tries + 1))
  done
}

# end_of_guest SECONDS: until it has powered off, and well.
end_of_guest() {
  await "$1" exit
  wait_for 20 sh -c "! kill -0 $guest" || guest_failed "the guest did not power off"
  grep -q '^guest-exit 0' "$console" || guest_failed "what the guest saw is not right"
  ! grep -E "is not a head|I/O error|Buffer I/O|EXT4-fs error" "$console" >&2 || guest_failed "the guest's kernel complained"
}

# said WORD: what the guest printed behind guest-WORD, without the console's line ends.
said() { tr -d '\r' <"$console" | sed -n "s/^guest-$1 //p"; }
