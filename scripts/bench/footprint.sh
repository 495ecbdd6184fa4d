#!/usr/bin/env bash
# Size of the device binary, and memory and CPU of the agent under the main job's load.
# usage: footprint.sh [MINUTES]     (as root; builds both release binaries; default 10 minutes)
set -euo pipefail
top=$(cd "$(dirname "$0")/../.." && pwd)
minutes=${1:-10}
[ "$(id -u)" = 0 ] || { echo "footprint.sh: must run as root: the sources in the kernel need it" >&2; exit 77; }
cd "$top"
cargo build --release --locked
cargo build --release --locked --no-default-features --target-dir target/device
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 scripts/bench/footprint.py target/release/twinward target/device/release/twinward "$minutes" "$work"
