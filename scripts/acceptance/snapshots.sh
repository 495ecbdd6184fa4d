#!/usr/bin/env bash
# What the snapshots say of things that were put there, against what ss, nft, iptables-save, getent and id say of the
# same things, line by line: sockets and firewalls in network namespaces, accounts in a changed root, all made here.
# usage: snapshots.sh [TWINWARD [PART...]]     (as root; default target/release/twinward and every part)
set -euo pipefail
top=$(cd "$(dirname "$0")/../.." && pwd)
program=${1:-$top/target/release/twinward}
shift || true
[ "$(id -u)" = 0 ] || { echo "snapshots.sh: must run as root: it makes namespaces" >&2; exit 77; }
[ -x "$program" ] || { echo "snapshots.sh: $program is missing; run: cargo build --release" >&2; exit 1; }
work=$(mktemp -d)
trap 'rm -rf --one-file-system "$work"' EXIT
chmod 755 "$work"
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check 'jsonschema==4.25.1' 'rfc3339-validator==0.1.4' 'referencing==0.36.2'
# A namespace of our own for mounts: what is mounted below the changed root is gone with the last process here.
unshare --mount --propagation private \
  "$work/venv/bin/python" "$top/scripts/acceptance/snapshots.py" "$program" "$top/tests/fixtures/azure-iot-security/security_message/schemas" "$work" "$@"
