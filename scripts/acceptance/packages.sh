#!/usr/bin/env bash
# The Debian package in booted systems, against the loopback hub outside of them: installed, signed in, watched over,
# upgraded, removed and purged, with nothing left behind (packages.py).
# usage: packages.sh [--suite bookworm|trixie]... [PACKAGE.deb]     (as root)
#
# PACKAGE.deb  default the newest target/packages/twinward_*_amd64.deb; it is built without the hub
# --suite      default both
#
# Environment: HUB is the program that has the hub (feature lab); default target/release/twinward.
# What is missing is installed. The trees are kept in target/accept/roots between runs (rootfs.sh).
set -euo pipefail
top=$(cd "$(dirname "$0")/../.." && pwd)
here=$top/scripts/acceptance
hub=${HUB:-$top/target/release/twinward}
suites=()
while (($#)); do
  case $1 in
    --suite) suites+=("${2:?--suite needs a name}"); shift 2 ;;
    -*) sed -n '4s/^# //p' "$0" >&2; exit 2 ;;
    *) break ;;
  esac
done
((${#suites[@]})) || suites=(bookworm trixie)
architecture=$(dpkg --print-architecture)
# shellcheck disable=SC2012 # our own names
package=${1:-$(ls -t "$top"/target/packages/twinward_*_"$architecture".deb 2>/dev/null | head -n1 || :)}
[[ $(id -u) == 0 ]] || { echo "packages.sh: must run as root: it boots systems" >&2; exit 77; }
[[ -f $package ]] || { echo "packages.sh: no package in target/packages; run: scripts/build-packages.sh" >&2; exit 1; }
"$hub" lab --help >/dev/null 2>&1 ||
  { echo "packages.sh: $hub has no hub; run: cargo build --release, or set HUB" >&2; exit 1; }

command -v systemd-nspawn >/dev/null || {
  echo "installing systemd-container"
  apt-get update -qq
  DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends systemd-container >/dev/null
}
trees=()
for suite in "${suites[@]}"; do trees+=("$suite=$("$here/rootfs.sh" "$suite" "$architecture")"); done

work=$(mktemp -d)
run=
trap '[[ -z $run ]] || kill "$run" 2>/dev/null || :; wait; rm -rf --one-file-system "$work"' EXIT
trap 'exit 130' INT TERM
echo "package: $package"
echo "hub: $hub"
"$here/boxed.sh" python3 "$here/packages.py" "$hub" "$package" "$work" "${trees[@]}" &
run=$!
status=0
wait "$run" || status=$?
run=
exit "$status"
