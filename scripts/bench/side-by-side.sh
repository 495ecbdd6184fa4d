#!/usr/bin/env bash
# The agent beside others under one load: what each costs a process start, and how much slower it makes the start itself.
# usage: side-by-side.sh [TWINWARD [DEVICE-TWINWARD [CONTENDER...]]]     (as root, on an otherwise idle machine)
#   TWINWARD runs the hub, DEVICE-TWINWARD is what is measured; default target/release/twinward for both
#   CONTENDER: bare ebpf ebpf-each audit audit-each auditd; default all of them
# It needs auditd (apt-get install auditd) and must be the only user of the audit system while it runs.
set -euo pipefail
top=$(cd "$(dirname "$0")/../.." && pwd)
program=${1:-$top/target/release/twinward}
device=${2:-$program}
shift "$(($# < 2 ? $# : 2))"
[ "$(id -u)" = 0 ] || { echo "side-by-side.sh: must run as root: the kernel's sources need it" >&2; exit 77; }
for file in "$program" "$device"; do
  [ -x "$file" ] || { echo "side-by-side.sh: $file is missing; run: cargo build --release" >&2; exit 1; }
done
command -v auditd >/dev/null || { echo "side-by-side.sh: auditd is missing; run: apt-get install auditd" >&2; exit 1; }
(cd "$top" && cargo build --release --quiet --locked --example count_starts)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 "$top/scripts/bench/side_by_side.py" "$program" "$device" "$top/target/release/examples/count_starts" "$work" "$@"
