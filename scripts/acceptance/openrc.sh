#!/usr/bin/env bash
# The service on systems without systemd: OpenRC's script and the one for busybox, each started, watched, killed and
# stopped with the real agent, against the loopback hub, in namespaces of its own.
# usage: openrc.sh TWINWARD [DEVICE-TWINWARD]     (as root)
#
# TWINWARD must have the feature `lab`: it is the hub, and the agent too if no other is given.
# OpenRC is tried as Debian 13 has it, with capabilities, and as Debian 12 has it, which was built without them; busybox
# with setpriv of util-linux and without. Needs glibc of Debian 12 at most.
#
# What is missing (mmdebstrap) is installed. The trees stay in target/openrc, so that a second run is quick.
set -euo pipefail
top=$(cd "$(dirname "$0")/../.." && pwd)
cache=$top/target/openrc
(($# >= 1 && $# <= 2)) || { sed -n '4s/^# //p' "$0" >&2; exit 2; }
[[ $(id -u) == 0 ]] || { echo "openrc.sh: must run as root: it makes namespaces and users" >&2; exit 77; }
hub=$(readlink -e "$1") agent=$(readlink -e "${2:-$1}")
"$hub" lab --help >/dev/null 2>&1 || { echo "openrc.sh: $hub has no lab; build it without --no-default-features" >&2; exit 1; }
if ! command -v mmdebstrap >/dev/null; then
  apt-get update -qq
  DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends mmdebstrap >/dev/null
fi
work=$(mktemp -d)
trap 'rm -rf --one-file-system "$work"' EXIT
mkdir -p "$cache"

mirror=$(awk '/^URIs:/ {print $2; exit}' /etc/apt/sources.list.d/debian.sources 2>/dev/null ||
  awk '$1 == "deb" {for (i = 2; i <= NF; i++) if ($i ~ /^http/) {print $i; exit}}' /etc/apt/sources.list)

tree() {
  local suite=$1 root=$2 file=$cache/$1.tar
  if [[ ! -s $file ]]; then
    echo "unpacking $suite"
    rm -f "$file.part"
    mmdebstrap --quiet --variant=minbase --include=openrc,busybox,iproute2 --format=tar "$suite" - "$mirror" >"$file.part"
    mv "$file.part" "$file"
  fi
  mkdir "$root"
  tar -C "$root" -xf "$file" --exclude='./dev/*'
  mkdir -p "$root/dev" "$root/etc/twinward/conf.d" "$root/etc/conf.d" "$root/lab" "$root/bb"
  mknod -m 666 "$root/dev/null" c 1 3
  mknod -m 666 "$root/dev/urandom" c 1 9
  install -m 755 "$agent" "$root/usr/bin/twinward"
  install -m 755 "$hub" "$root/lab/twinward-lab"
  install -m 755 "$top/packaging/openrc/twinward" "$root/etc/init.d/twinward"
  install -m 644 "$top/packaging/openrc/twinward.confd" "$root/etc/conf.d/twinward"
  install -m 755 "$top/packaging/busybox/S60twinward" "$root/etc/init.d/S60twinward"
  install -m 755 "$top/scripts/acceptance/openrc-inside.sh" "$root/lab/inside.sh"
  # The shell of such systems is busybox.
  ln -sf busybox "$root/bin/sh"
  chroot "$root" /bin/busybox --install -s /bb
  chroot "$root" useradd --system --user-group --no-create-home --home-dir /var/lib/twinward --shell /usr/sbin/nologin twinward
}

failed=0
try() {
  local suite=$1 kind=$2
  echo "=== $kind ($suite)"
  tree "$suite" "$work/$kind"
  unshare --pid --mount --net --uts --ipc --fork --kill-child --mount-proc="$work/$kind/proc" chroot "$work/$kind" \
    env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin /bin/bash /lab/inside.sh "$kind" || failed=1
  rm -rf --one-file-system "${work:?}/$kind"
}

try trixie openrc
try bookworm openrc-without-libcap
try bookworm busybox
try bookworm busybox-without-setpriv
((failed == 0)) && echo "all passed"
exit "$failed"
