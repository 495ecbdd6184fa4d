#!/usr/bin/env bash
# What the sources of process starts and connections see of a known load, against the loopback hub: every marked process
# and connection is received, or counted.
# usage: capture.sh [TWINWARD [SOURCE...]]     (as root; SOURCE: ebpf audit connector fanotify; default all of them)
set -euo pipefail
top=$(cd "$(dirname "$0")/../.." && pwd)
program=${1:-$top/target/release/twinward}
shift || true
[ "$(id -u)" = 0 ] || { echo "capture.sh: must run as root: the kernel's sources need it" >&2; exit 77; }
[ -x "$program" ] || { echo "capture.sh: $program is missing; run: cargo build --release" >&2; exit 1; }
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check 'jsonschema==4.25.1' 'rfc3339-validator==0.1.4' 'referencing==0.36.2'
"$work/venv/bin/python" "$top/scripts/acceptance/capture.py" "$program" "$top/tests/fixtures/azure-iot-security/security_message/schemas" "$work" "$@"
