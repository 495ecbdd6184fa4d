#!/usr/bin/env bash
# The packages for ARM, tried on a machine that is none: installed in a booted root system of their architecture, and
# each program run under a model of its processor, against the loopback hub outside (emulated.py).
# usage: emulated.sh [TARGET...]     (as root; TARGET: arm64 armhf armv6; default all)
#
#   arm64 armhf  the .deb in Debian 12 of that architecture; then its program, armhf's on a Cortex-A7
#   armv6        the static program of the tarball, on an ARM1176, the processor of the Raspberry Pi Zero and 1
#
# Environment: HUB is the program that has the hub (feature lab); default target/release/twinward. PACKAGES is where
# packages and tarball are; default target/packages. TRY has a program for each target with the feature lab, as
# TRY/TARGET/twinward (scripts/build-cross.sh makes them, without --device); if it is there, `twinward try` is run too.
# What is missing is installed. The emulator is registered with the kernel for the time of the run.
set -euo pipefail
top=$(cd "$(dirname "$0")/../.." && pwd)
here=$top/scripts/acceptance
hub=${HUB:-$top/target/release/twinward}
packages=${PACKAGES:-$top/target/packages}
binfmt=/proc/sys/fs/binfmt_misc
(($#)) || set -- arm64 armhf armv6
[[ $(id -u) == 0 ]] || { echo "emulated.sh: must run as root: it boots systems" >&2; exit 77; }
"$hub" lab --help >/dev/null 2>&1 ||
  { echo "emulated.sh: $hub has no hub; run: cargo build --release, or set HUB" >&2; exit 1; }

work=$(mktemp -d)
run=
registered=()
mounted=
# shellcheck disable=SC2317 # the trap calls it
end() {
  [[ -z $run ]] || kill "$run" 2>/dev/null || :
  wait
  local name
  for name in "${registered[@]}"; do echo -1 >"$binfmt/$name"; done
  [[ -z $mounted ]] || umount "$binfmt"
  rm -rf --one-file-system "$work"
}
trap end EXIT
trap 'exit 130' INT TERM

tools() {
  local missing=() pair
  for pair in systemd-nspawn:systemd-container qemu-arm-static:qemu-user-static arch-test:arch-test; do
    command -v "${pair%:*}" >/dev/null || missing+=("${pair#*:}")
  done
  ((${#missing[@]})) || return 0
  echo "installing ${missing[*]}"
  apt-get update -qq
  DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
}

# The kernel then starts programs of that processor with the emulator, which it keeps open: it need not be in the tree.
register() {
  local name=qemu-$1
  if [[ ! -e $binfmt/register ]]; then
    mount -t binfmt_misc binfmt_misc "$binfmt"
    mounted=yes
  fi
  [[ ! -e $binfmt/$name ]] || return 0
  cat "/usr/lib/binfmt.d/$name.conf" >"$binfmt/register"
  registered+=("$name")
}

# The newest file of that name.
newest() {
  local file
  # shellcheck disable=SC2012,SC2086 # our own names; a pattern
  file=$(ls -t "$packages"/$1 2>/dev/null | head -n1)
  [[ $file ]] || { echo "emulated.sh: no $1 in $packages; run: scripts/build-packages.sh" >&2; return 1; }
  echo "$file"
}

# Runs a part. The program is tried where the kernel's sources speak, in the first process namespace.
part() {
  local own=()
  [[ $1 != package ]] || own=("$here/boxed.sh")
  "${own[@]}" python3 "$here/emulated.py" "$@" &
  run=$!
  local status=0
  wait "$run" || status=$?
  run=
  ((status == 0)) || failed=1
}

# The program with its processor: a command that can be run like it.
emulator() {
  local name=$1 program=$2
  shift 2
  printf '#!/bin/sh\nexec %s %s "$@"\n' "$*" "$program" >"$work/$name/twinward"
  chmod 755 "$work/$name/twinward"
  echo "$work/$name/twinward"
}

attempt() {
  local target=$1 package program tree prefix cpu=()
  mkdir -p "$work/$target/files"
  case $target in
    arm64) cpu=(qemu-aarch64-static) ;;
    armhf) cpu=(qemu-arm-static -cpu cortex-a7) ;;
    armv6) cpu=(qemu-arm-static -cpu arm1176) ;;
    *) echo "emulated.sh: no target $target" >&2; return 2 ;;
  esac
  if [[ $target == armv6 ]]; then
    package=$(newest 'twinward-*-armv6*.tar.?z')
    tar -xf "$package" -C "$work/$target/files" --strip-components=1
    program=$work/$target/files/twinward
  else
    package=$(newest "twinward_*_$target.deb")
    if [[ $target == arm64 ]]; then register aarch64; else register arm; fi
    tree=$("$here/rootfs.sh" bookworm "$target")
    echo "=== $target: $package in Debian 12"
    part package "$target" "$hub" "$work/$target/package" "$package" "$tree"
    dpkg-deb --extract "$package" "$work/$target/files"
    program=$work/$target/files/usr/bin/twinward
    # The loader and libc are looked for there first, and nothing else.
    prefix=$work/$target/prefix
    mkdir "$prefix"
    ln -s "$tree/usr/lib" "$prefix/lib"
    cpu+=(-L "$prefix")
  fi
  echo "=== $target: the program of $package, under ${cpu[*]}"
  part program "$target" "$hub" "$work/$target/program" "$(emulator "$target" "$program" "${cpu[@]}")"
  if [[ -x ${TRY:-/nonexistent}/$target/twinward ]]; then
    echo "=== $target: the same with the feature lab"
    part try "$target" "$(emulator "$target" "$TRY/$target/twinward" "${cpu[@]}")"
  fi
}

tools
failed=0
for target in "$@"; do
  began=$SECONDS
  attempt "$target"
  echo "=== $target: $((SECONDS - began)) s"
done
exit "$failed"
