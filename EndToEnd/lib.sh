# What the end-to-end checks share. Sourced by bash, from the check's own folder.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
check=${0##*/}
# Debian keeps file system tools where a user's shell does not look.
export PATH=$PATH:/usr/sbin:/sbin
work=$(mktemp -d)
children=()
# Process groups that are ended at once.
groups=()

pass() { echo "$check: PASS: $*"; }
fail() { echo "$check: FAIL: $*" >&2; exit 1; }

# need PROGRAM PACKAGE: skips the check where a program is not installed.
need() {
  command -v "$1" >/dev/null || { echo "$check: needs $1: apt-get install $2" >&2; exit 77; }
}

# build PRODUCT: builds it for release and sets `program` to its path.
build() {
  swift build --package-path "$root" -c release --product "$1" >"$work/build.log" 2>&1 ||
    { cat "$work/build.log" >&2; fail "the build failed"; }
  program=$(swift build --package-path "$root" -c release --show-bin-path)/$1
}

# wait_for SECONDS COMMAND...: until the command succeeds.
wait_for() {
  local end=$((SECONDS + $1))
  shift
  until "$@" >/dev/null 2>&1; do
    [ "$SECONDS" -lt "$end" ] || return 1
    sleep 0.1
  done
}

# json FILE EXPRESSION: evaluates a Python expression over the object `r`, and fails unless it is true.
json() {
  python3 - "$1" "$2" <<'PYTHON' || fail "not so: $2"
import json, sys
r = json.load(open(sys.argv[1]))
sys.exit(0 if eval(sys.argv[2], {"r": r}) else 1)
PYTHON
}

finish() {
  local child group
  for group in ${groups[@]+"${groups[@]}"}; do kill -9 -- "-$group" 2>/dev/null || true; done
  for child in ${children[@]+"${children[@]}"}; do kill "$child" 2>/dev/null || true; done
  for child in ${groups[@]+"${groups[@]}"} ${children[@]+"${children[@]}"}; do wait "$child" 2>/dev/null || true; done
  rm -rf "$work"
}
trap finish EXIT
trap 'exit 130' INT TERM
