#!/usr/bin/env bash
# A small Debian that boots, to install packages into: systemd, dbus, apt, nft, and nothing of ours.
# usage: rootfs.sh SUITE [ARCHITECTURE]     (as root; SUITE: bookworm, trixie, ...; default: this machine's processor)
#
# The path of the tree is the only line on standard output. Mount it as the lower part of an overlay and never write
# into it: it is kept below target/accept/roots, and made anew when this script changes or the tree is a month old. What
# is missing is installed. For a foreign architecture its qemu must be registered with the kernel, as emulated.sh does.
set -euo pipefail
top=$(cd "$(dirname "$0")/../.." && pwd)
[[ $# == 1 || $# == 2 ]] || { sed -n '3s/^# //p' "$0" >&2; exit 2; }
suite=$1 architecture=${2:-$(dpkg --print-architecture)}
[[ $(id -u) == 0 ]] || { echo "rootfs.sh: must run as root: it makes a root file system" >&2; exit 77; }

roots=$top/target/accept/roots
tree=$roots/$suite-$architecture
stamp=$tree.made
mkdir -p "$roots"
# Two that want the same tree: the second finds it made.
exec 9>"$tree.lock"
flock 9

recipe=$(sha256sum <"$0")
if [[ -d $tree && -f $stamp && $(<"$stamp") == "$recipe" && -n $(find "$stamp" -mtime -30) ]]; then
  echo "$tree"
  exit
fi
if ! command -v mmdebstrap >/dev/null; then
  { apt-get update -qq &&
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends mmdebstrap; } >&2
fi
# Where this machine has its packages from.
mirror=$(awk '/^URIs:/ {print $2; exit}' /etc/apt/sources.list.d/debian.sources 2>/dev/null ||
  awk '$1 == "deb" {for (i = 2; i <= NF; i++) if ($i ~ /^http/) {print $i; exit}}' /etc/apt/sources.list)
[[ -n $mirror ]] || { echo "rootfs.sh: apt's sources name no mirror of Debian" >&2; exit 1; }

echo "making a root file system of $suite for $architecture" >&2
rm -rf --one-file-system "$tree" "$tree.part"
# nft: without it the agent has no firewall to look at, and `doctor` says so.
mmdebstrap --quiet --variant=minbase --architectures="$architecture" \
  --include=systemd,systemd-sysv,dbus,procps,iproute2,nftables "$suite" "$tree.part" "$mirror" >&2
mv "$tree.part" "$tree"
echo "$recipe" >"$stamp"
echo "$tree"
