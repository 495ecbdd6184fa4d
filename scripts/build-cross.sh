#!/usr/bin/env bash
# Builds the agent for a processor that this machine may not have.
# usage: build-cross.sh [--device] TARGET...     (--device: as the device packages are built)
#        build-cross.sh --tools                  installs what is missing, and prints which cargo is used
#
#   amd64 arm64 armhf                      for glibc 2.28 or newer, whatever is here
#   x86_64-musl aarch64-musl armv6-musl    static, for systems without glibc or with a very old one
#
# armhf and armv6-musl are built for ARMv6 with VFPv2: they run on every 32-bit Raspberry Pi OS, and on Debian's ARMv7.
# The programs are CARGO_TARGET_DIR/TRIPLE/release/twinward, by default below target/cross; their names are the only
# lines on standard output. Two runs at once need two such directories. --device gives the programs line tables, which
# scripts/build-packages.sh takes off again into a file of its own, and the list of what they are built of, for
# cargo-audit. Stripped, they name no path of the machine: the same sources and compiler give the same bytes.
#
# zig links, and brings each libc; it comes from PyPI. The standard library is built from its source together with the
# program, which makes it 0.5 MB smaller than with the one that rustup brings: with the source of the toolchain in use
# (`rustup component add rust-src`), else with Debian's rustc-web. Where neither can be had, rustup's own is taken, and it
# must have the target. What is missing is installed, for which it must run as root.
set -euo pipefail
cd "$(dirname "$0")/.."
umask 022
export LC_ALL=C TZ=UTC

readonly GLIBC=2.28 ZIG=0.17.1 ZIGBUILD=0.24.1 AUDITABLE=0.7.7
readonly TOOLS=$PWD/target/cross-tools
export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-$PWD/target/cross} CARGO_TERM_COLOR=never CARGO_INCREMENTAL=0

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

auditable() {
  [[ -x $TOOLS/bin/cargo-auditable ]] && return
  CARGO_TARGET_DIR=$PWD/target/tools \
    "$CARGO" install --quiet --locked --root "$TOOLS" cargo-auditable --version "$AUDITABLE" >&2
}

triple_of() {
  case $1 in
    amd64) echo x86_64-unknown-linux-gnu ;;
    arm64) echo aarch64-unknown-linux-gnu ;;
    armhf) echo arm-unknown-linux-gnueabihf ;;
    x86_64-musl) echo x86_64-unknown-linux-musl ;;
    aarch64-musl) echo aarch64-unknown-linux-musl ;;
    armv6-musl) echo arm-unknown-linux-musleabihf ;;
    *) echo "build-cross.sh: no target $1; --help names them" >&2; return 2 ;;
  esac
}

# Whether the program runs where it is meant to.
inspect() {
  local program=$1 target=$2 glibc traits
  if [[ $target == *-musl ]]; then
    ! readelf -l "$program" | grep -q INTERP || { echo "build-cross.sh: $program is not static" >&2; return 1; }
    echo "$target: static" >&2
  else
    glibc=$(readelf -V "$program" | grep -o 'GLIBC_[0-9.]*' | sort -uV | tail -n1)
    echo "$target: needs $glibc" >&2
    printf '%s\n' "$glibc" "GLIBC_$GLIBC" | sort -CV ||
      { echo "build-cross.sh: that is newer than $GLIBC" >&2; return 1; }
  fi
  [[ $target == armhf || $target == armv6-musl ]] || return 0
  traits=$(readelf -A -h "$program" | grep -E 'Tag_(CPU_arch|FP_arch):|^ *Flags:' | tr -s ' \n' ' ')
  echo "$target:$traits" >&2
  [[ $traits == *"CPU_arch: v6 "* && $traits == *"FP_arch: VFPv2 "* && $traits == *"hard-float ABI"* ]] ||
    { echo "build-cross.sh: that is not ARMv6 with VFPv2" >&2; return 1; }
}

# Where the standard library comes from.
choose_toolchain() {
  local package packages=(rustc-web cargo-web rust-web-src)
  if command -v rustc >/dev/null && [[ -d $(rustc --print sysroot)/lib/rustlib/src/rust/library ]]; then
    toolchain=source
    return
  fi
  for package in "${packages[@]}"; do [[ -e /usr/share/doc/$package ]] || break; package=; done
  if [[ ! $package ]]; then
    toolchain=debian
  elif [[ $(id -u) == 0 ]] && command -v apt-get >/dev/null && apt-get update -qq >&2 &&
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${packages[@]}" >/dev/null; then
    toolchain=debian
  else
    command -v cargo >/dev/null || { echo "build-cross.sh: there is no Rust, and rustc-web cannot be had" >&2; return 1; }
    toolchain=prebuilt
    echo "build-cross.sh: neither rust-src nor rustc-web can be had; the programs will be larger" >&2
  fi
}

# Writes the rustc that cargo calls: the real one, told to write the same names for the same sources wherever they lie. As
# flags of cargo they would change the names of all symbols, and so the order of the code. It prints where it is.
same_names() {
  local rustc id home=${CARGO_HOME:-$HOME/.cargo}
  rustc=$(command -v "$compiler")
  id=$({ find src bpf packaging/baseline build.rs Cargo.toml Cargo.lock .cargo scripts/build-cross.sh -type f -print0 | sort -z | xargs -0 cat &&
    "$rustc" -vV && echo "$triple"; } | sha1sum | head -c 40)
  mkdir -p "$CARGO_TARGET_DIR"
  # shellcheck disable=SC2016 # for the script that is written
  {
    echo '#!/usr/bin/env bash'
    printf 'names=(%q %q %q)\n' "--remap-path-prefix=$PWD=/twinward" "--remap-path-prefix=$home=/cargo" \
      "--remap-path-prefix=$("$rustc" --print sysroot)=/rust"
    # A panic names crate and file. The last that fits counts.
    printf 'for registry in %q/registry/src/*; do names+=("--remap-path-prefix=$registry/="); done\n' "$home"
    # Our own crate is linked with a build id, and `cargo auditable` wants to be asked for it; see below. The linker would
    # reckon the id from what zig says of its start files, too: the directory.
    echo 'auditable=()'
    echo 'if [[ ${CARGO_AUDITABLE_ORIG_ARGS:-} && ${CARGO_PRIMARY_PACKAGE:-} ]]; then'
    printf '  auditable=(%q) names+=(%q)\nfi\n' "$TOOLS/bin/cargo-auditable" "-Clink-arg=-Wl,--build-id=0x$id"
    printf 'exec "${auditable[@]}" %q "$@" "${names[@]}"\n' "$rustc"
  } >"$CARGO_TARGET_DIR/rustc.new"
  chmod 755 "$CARGO_TARGET_DIR/rustc.new"
  # Cargo looks at its time: the same one stays.
  if cmp -s "$CARGO_TARGET_DIR/rustc.new" "$CARGO_TARGET_DIR/rustc"; then rm "$CARGO_TARGET_DIR/rustc.new"
  else mv "$CARGO_TARGET_DIR/rustc.new" "$CARGO_TARGET_DIR/rustc"; fi
  echo "$CARGO_TARGET_DIR/rustc"
}

usage() { sed -n '2,22s/^# \{0,1\}//p' "$0"; }

device='' tools=''
case ${1:-} in
  --device) device=yes; shift ;;
  --tools) device=yes tools=yes; shift ;;
  -h | --help) usage; exit ;;
esac
(($#)) || [[ $tools ]] || { usage >&2; exit 2; }
for target in "$@"; do triple_of "$target" >/dev/null; done

mkdir -p target
# Another run may be installing the same.
exec 9>target/cross-tools.lock
flock 9
need python3 python3 clang clang readelf binutils
choose_toolchain
case $toolchain in
  debian) export CARGO=/usr/bin/cargo RUSTC=/usr/bin/rustc ;;
  *) export CARGO=cargo RUSTC=rustc ;;
esac
zig
if [[ $device ]]; then auditable; fi
exec 9>&-
if [[ $tools ]]; then
  echo "$CARGO"
  exit
fi
export PATH=$TOOLS/bin:$PATH
compiler=$RUSTC
# The same for C; for the rest of its flags see .cargo/config.toml.
CFLAGS="$(sed -n 's/^CFLAGS = "\(.*\)"/\1/p' .cargo/config.toml) '-ffile-prefix-map=$PWD=/twinward'"
# shellcheck disable=SC2089,SC2090 # the crate cc reads them, quotes and all
CFLAGS+=" '-ffile-prefix-map=${CARGO_HOME:-$HOME/.cargo}=/cargo'"
# shellcheck disable=SC2090
export CFLAGS CC_SHELL_ESCAPED_FLAGS=1
for target in "$@"; do
  triple=$(triple_of "$target")
  RUSTC=$(same_names)
  export RUSTC
  flags=()
  std=("-Zbuild-std=std,panic_abort" "-Zbuild-std-features=optimize_for_size")
  export RUSTC_BOOTSTRAP=1
  if [[ $toolchain == prebuilt ]]; then
    unset RUSTC_BOOTSTRAP
    std=()
  fi
  if ((${#std[@]})); then
    # Without unwinding nobody reads the tables for it.
    flags+=(-Cforce-unwind-tables=no)
    # LLVM's machine outliner, which it uses on ARM by itself when it builds for size.
    if [[ $triple == x86_64-* ]]; then flags+=(-Cllvm-args=-enable-machine-outliner=always); fi
    # The start files of musl are zig's.
    if [[ $target == *-musl ]]; then flags+=(-Clink-self-contained=no); fi
  fi
  command=(zigbuild --release --locked --target "$triple")
  [[ $target == *-musl ]] || command[-1]+=.$GLIBC
  if [[ $device ]]; then
    # It would have cargo call it as a wrapper, whose path then gets into the names of our symbols.
    printf '#!/bin/sh\nunset RUSTC_WORKSPACE_WRAPPER\nexec "%s" "$@"\n' "$(command -v "$CARGO")" >"$CARGO_TARGET_DIR/cargo"
    chmod 755 "$CARGO_TARGET_DIR/cargo"
    command=("${command[@]}" --no-default-features)
    export CARGO_PROFILE_RELEASE_STRIP=none CARGO_PROFILE_RELEASE_DEBUG=line-tables-only
  fi
  if [[ $device ]]; then
    RUSTFLAGS="${flags[*]}" CARGO=$CARGO_TARGET_DIR/cargo cargo-auditable auditable "${command[@]}" "${std[@]}" >&2
  else
    RUSTFLAGS="${flags[*]}" "$CARGO" "${command[@]}" "${std[@]}" >&2
  fi
  program=$CARGO_TARGET_DIR/$triple/release/twinward
  inspect "$program" "$target"
  echo "$program"
done
