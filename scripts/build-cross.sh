#!/usr/bin/env bash
# Builds the agent for a processor that this machine may not have. It then needs glibc 2.28 or newer, whatever is here.
# usage: build-cross.sh [--device] ARCHITECTURE...     (amd64, arm64, armhf; --device: as the device packages are built)
#
# armhf is built for ARMv6 with VFPv2: it runs on every 32-bit Raspberry Pi OS, and on Debian's ARMv7.
# The programs are target/cross/TARGET/release/twinward; their names are the only lines on standard output.
#
# zig links, and brings each libc; it comes from PyPI. The standard library is rustup's if it has the target; else
# Debian's rustc-web builds it from its source. What is missing is installed, for which it must run as root.
set -euo pipefail
cd "$(dirname "$0")/.."

readonly GLIBC=2.28 ZIG=0.17.1 ZIGBUILD=0.24.1
readonly TOOLS=$PWD/target/cross-tools
export CARGO_TARGET_DIR=$PWD/target/cross CARGO_TERM_COLOR=never

# Installs what is missing of these pairs of a file and the Debian package that brings it.
need() {
  local missing=()
  while (($#)); do
    [[ -e $1 ]] || command -v "$1" >/dev/null || missing+=("$2")
    shift 2
  done
  ((${#missing[@]})) || return 0
  [[ $(id -u) == 0 ]] || { echo "build-cross.sh: install ${missing[*]}, or run as root" >&2; exit 1; }
  echo "installing ${missing[*]}" >&2
  { apt-get update -qq &&
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}"; } >/dev/null
}

zig() {
  [[ -x $TOOLS/bin/cargo-zigbuild ]] && return
  python3 -c 'import ensurepip' 2>/dev/null || need /none python3-venv
  python3 -m venv "$TOOLS"
  "$TOOLS/bin/pip" install --quiet --disable-pip-version-check "ziglang==$ZIG" "cargo-zigbuild==$ZIGBUILD" >&2
}

target_of() {
  case $1 in
    amd64) echo x86_64-unknown-linux-gnu ;;
    arm64) echo aarch64-unknown-linux-gnu ;;
    armhf) echo arm-unknown-linux-gnueabihf ;;
    *) echo "build-cross.sh: no architecture $1; there are amd64, arm64, armhf" >&2; return 2 ;;
  esac
}

# Whether the program runs where it is meant to.
inspect() {
  local program=$1 architecture=$2 glibc
  glibc=$(readelf -V "$program" | grep -o 'GLIBC_[0-9.]*' | sort -uV | tail -n1)
  echo "$architecture: $(stat -c %s "$program") bytes, needs $glibc" >&2
  printf '%s\n' "$glibc" "GLIBC_$GLIBC" | sort -CV || { echo "build-cross.sh: that is newer than $GLIBC" >&2; return 1; }
  [[ $architecture == armhf ]] || return 0
  local traits
  traits=$(readelf -A -h "$program" | grep -E 'Tag_(CPU_arch|FP_arch):|^ *Flags:' | tr -s ' \n' ' ')
  echo "$architecture:$traits" >&2
  [[ $traits == *"CPU_arch: v6 "* && $traits == *"FP_arch: VFPv2 "* && $traits == *"hard-float ABI"* ]] ||
    { echo "build-cross.sh: that is not ARMv6 with VFPv2" >&2; return 1; }
}

features=()
if [[ ${1:-} == --device ]]; then
  features=(--no-default-features)
  shift
fi
(($#)) || { sed -n '2,3s/^# //p' "$0" >&2; exit 2; }
for architecture in "$@"; do target_of "$architecture" >/dev/null; done

need python3 python3 clang clang readelf binutils
zig
export PATH=$TOOLS/bin:$PATH
for architecture in "$@"; do
  target=$(target_of "$architecture")
  command=(cargo-zigbuild zigbuild --release --locked --target "$target.$GLIBC" "${features[@]}")
  if command -v rustc >/dev/null && [[ -d $(rustc --print sysroot)/lib/rustlib/$target/lib ]]; then
    "${command[@]}" >&2
  else
    for package in rustc-web cargo-web rust-web-src; do need "/usr/share/doc/$package" "$package"; done
    RUSTC_BOOTSTRAP=1 CARGO=/usr/bin/cargo RUSTC=/usr/bin/rustc "${command[@]}" -Zbuild-std=std,panic_abort >&2
  fi
  program=$CARGO_TARGET_DIR/$target/release/twinward
  inspect "$program" "$architecture"
  echo "$program"
done
