#!/usr/bin/env bash
# What capturing costs: idle, and at 500 process starts a second, of the whole agent with TLS to the loopback hub.
# usage: capture.sh [TWINWARD [DEVICE-TWINWARD [SOURCE...]]]     (as root, on an otherwise idle machine)
#   TWINWARD runs the hub, DEVICE-TWINWARD is what is measured; default target/release/twinward for both
#   SOURCE: ebpf audit connector; default ebpf
set -euo pipefail
top=$(cd "$(dirname "$0")/../.." && pwd)
program=${1:-$top/target/release/twinward}
device=${2:-$program}
shift "$(($# < 2 ? $# : 2))"
[ "$(id -u)" = 0 ] || { echo "capture.sh: must run as root: the kernel's sources need it" >&2; exit 77; }
for file in "$program" "$device"; do
  [ -x "$file" ] || { echo "capture.sh: $file is missing; run: cargo build --release" >&2; exit 1; }
done
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 "$top/scripts/bench/capture.py" "$program" "$device" "$work" "$@"
