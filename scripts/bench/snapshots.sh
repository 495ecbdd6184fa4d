#!/usr/bin/env bash
# What all snapshots together cost on a machine with at least 300 processes and 2,000 sockets: processor time with that
# of the programs that are run for them, and memory beyond what the process had. As root, on an otherwise idle machine.
# usage: snapshots.sh [MOST_CPU_MS [MOST_KIB]]     default 300 and 4096; a first round above either fails
set -euo pipefail
top=$(cd "$(dirname "$0")/../.." && pwd)
[ "$(id -u)" = 0 ] || { echo "snapshots.sh: must run as root: the open files of all processes are read" >&2; exit 77; }
cargo build --quiet --release --locked --no-default-features --example take_snapshots --manifest-path "$top/Cargo.toml"
exec python3 "$top/scripts/bench/snapshots.py" "$top/target/release/examples/take_snapshots" "${1:-300}" "${2:-4096}"
