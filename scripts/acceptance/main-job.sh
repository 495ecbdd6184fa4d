#!/usr/bin/env bash
# The main job end to end, against the loopback hub in its own process: a cut link, a SIGKILL, and nothing lost.
# usage: main-job.sh [TWINWARD]     (as root; TWINWARD: the program, default target/release/twinward)
set -euo pipefail
top=$(cd "$(dirname "$0")/../.." && pwd)
program=${1:-$top/target/release/twinward}
[ "$(id -u)" = 0 ] || { echo "main-job.sh: must run as root: the sources in the kernel need it" >&2; exit 77; }
[ -x "$program" ] || { echo "main-job.sh: $program is missing; run: cargo build --release" >&2; exit 1; }
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check 'jsonschema==4.25.1' 'rfc3339-validator==0.1.4' 'referencing==0.36.2'
"$work/venv/bin/python" "$top/scripts/acceptance/main_job.py" "$program" "$top/tests/fixtures/azure-iot-security/security_message/schemas" "$work"
