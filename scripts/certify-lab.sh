#!/bin/sh
# Certifies the loopback IoT Hub with Microsoft's own client, which its author had no hand in.
# Usage: scripts/certify-lab.sh path/to/twinward
# Needs python3 with venv, and PyPI. Leaves nothing behind.
set -eu

binary=${1:?usage: certify-lab.sh path/to/twinward}
here=$(cd "$(dirname "$0")" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check azure-iot-device==2.14.0 paho-mqtt==1.6.1
PYTHONDONTWRITEBYTECODE=1 "$work/venv/bin/python" "$here/certify_lab.py" "$binary"
