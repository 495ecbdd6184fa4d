#!/usr/bin/env bash
# Builds the packages: for each target the program (scripts/build-cross.sh), the package, its symbols, and what it is
# made of. The same commit and compiler give the same bytes, in any directory (scripts/acceptance/reproducible.sh).
# usage: build-packages.sh [TARGET...]        (default: all)
#
#   amd64 arm64 armhf                       twinward_VERSION_ARCH.deb, twinward-dbgsym_VERSION_ARCH.deb
#   x86_64-musl aarch64-musl armv6-musl     twinward-VERSION-TARGET.tar.xz: static program, units, manual, INSTALL
#
# They are put into target/packages, each but the symbols with NAME.cdx.json beside it: the crates that are linked in, in
# the form of CycloneDX, as read back from the program. SHA256SUMS has the sums of all that is there. It fails if a program
# or a package is larger than packaging/sizes allows.
# What is missing is installed, for which it must run as root; see scripts/build-cross.sh.
set -euo pipefail
cd "$(dirname "$0")/.."
umask 022
export LC_ALL=C TZ=UTC

readonly CARGO_DEB=3.8.0 TO_CDX=0.1.0
readonly TOOLS=$PWD/target/cross-tools OUT=$PWD/target/packages
export CARGO_TERM_COLOR=never

case ${1:-} in
  -h | --help) sed -n '2,13s/^# \{0,1\}//p' "$0"; exit ;;
esac
(($#)) || set -- amd64 arm64 armhf x86_64-musl aarch64-musl armv6-musl

say() { echo "build-packages.sh: $*" >&2; }

tools() {
  local missing=() file
  for file in git:git llvm-objcopy:llvm readelf:binutils xz:xz-utils; do
    command -v "${file%:*}" >/dev/null || missing+=("${file#*:}")
  done
  if ((${#missing[@]})); then
    [[ $(id -u) == 0 ]] || { say "install ${missing[*]}, or run as root"; return 1; }
    say "installing ${missing[*]}"
    { apt-get update -qq &&
      DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}"; } >/dev/null
  fi
  local cargo
  cargo=$(scripts/build-cross.sh --tools)
  [[ -x $TOOLS/bin/cargo-deb ]] ||
    CARGO_TARGET_DIR=$PWD/target/tools \
      "$cargo" install --quiet --locked --root "$TOOLS" cargo-deb --version "$CARGO_DEB"
  [[ -x $TOOLS/bin/auditable2cdx ]] ||
    CARGO_TARGET_DIR=$PWD/target/tools \
      "$cargo" install --quiet --locked --root "$TOOLS" auditable2cdx --version "$TO_CDX"
  # The one objcopy that knows all processors. The list of crates is to stay in the program.
  mkdir -p "$TOOLS/all"
  printf '#!/bin/sh\nexec llvm-objcopy --keep-section=.dep-v0 "$@"\n' >"$TOOLS/all/objcopy"
  chmod 755 "$TOOLS/all/objcopy"
}

# Fails if a file is larger than packaging/sizes has it for this target. Lines there: TARGET KIND BYTES.
fits() {
  local target=$1 kind=$2 file=$3 size limit
  size=$(stat -c %s "$file")
  limit=$(awk -v t="$target" -v k="$kind" '$1 == t && $2 == k {print $3}' packaging/sizes)
  echo "$target $kind: $size bytes, at most $limit"
  ((size <= ${limit:-0})) || { say "$file is too large; see packaging/sizes"; return 1; }
}

# The crates that the list inside the program names.
sbom() {
  local program=$1 package=$2
  "$TOOLS/bin/auditable2cdx" "$program" >"$package.cdx.json"
  grep -q '"purl": *"pkg:cargo/rustls@' "$package.cdx.json" || { say "$package.cdx.json names no rustls"; return 1; }
}

# One member of an archive of ar(1), in the plain form of packages: ar itself would add a slash to the name.
member() {
  local name=$1 file=$2 size
  size=$(stat -c %s "$file")
  printf '%-16s%-12d%-6d%-6d%-8s%-10d`\n' "$name" "$SOURCE_DATE_EPOCH" 0 0 100644 "$size"
  cat "$file"
  if ((size % 2)); then echo; fi
}

# Packs the content of a package again: with the sums of its files, by which `dpkg --verify` tells changed ones, and with
# xz's settings for the code of that processor, which make it 4 % smaller.
pack() {
  local target=$1 package=$2 work=$3 filter
  case $target in
    amd64) filter=(--x86 "--lzma2=preset=9e,pb=0,lc=4") ;;
    armhf) filter=(--arm "--lzma2=preset=9e,lp=2,lc=2") ;;
    *) filter=("--lzma2=preset=9e,lp=2,lc=2") ;;
  esac
  dpkg-deb --extract "$package" "$work/data"
  dpkg-deb --control "$package" "$work/control"
  (cd "$work/data" && find . -type f ! -path './etc/*' -printf '%P\0' | sort -z | xargs -0 md5sum) \
    >"$work/control/md5sums"
  chmod 644 "$work/control/md5sums"
  dpkg-deb --fsys-tarfile "$package" | xz --threads=1 "${filter[@]}" >"$work/data.tar.xz"
  tar --create --directory "$work/control" --sort=name --owner=0 --group=0 --numeric-owner \
    --mtime="@$SOURCE_DATE_EPOCH" --format=gnu . | xz --threads=1 >"$work/control.tar.xz"
  echo 2.0 >"$work/debian-binary"
  {
    echo '!<arch>'
    for file in debian-binary control.tar.xz data.tar.xz; do member "$file" "$work/$file"; done
  } >"$work/package"
  mv "$work/package" "$package"
}

# The package of the symbols, by which a debugger finds lines to addresses.
symbols() {
  local target=$1 program=$2 stripped=$3 package=$4 work=$5 id file
  id=$(readelf -n "$stripped" | sed -n 's/ *Build ID: //p')
  [[ $id ]] || { say "$stripped has no build id"; return 1; }
  file=$work/symbols/usr/lib/debug/.build-id/${id:0:2}/${id:2}.debug
  mkdir -p "$(dirname "$file")" "$work/symbols/DEBIAN" "$work/symbols/usr/share/doc"
  "$TOOLS/all/objcopy" --only-keep-debug --compress-debug-sections=zlib "$program" "$file"
  chmod 644 "$file"
  ln -s twinward "$work/symbols/usr/share/doc/twinward-dbgsym"
  cat >"$work/symbols/DEBIAN/control" <<TEXT
Package: twinward-dbgsym
Source: twinward
Version: $package_version
Auto-Built-Package: debug-symbols
Architecture: $target
Maintainer: $(dpkg-deb --field "$package" Maintainer)
Depends: twinward (= $package_version)
Section: debug
Priority: optional
Description: debug symbols for twinward
Build-Ids: $id
TEXT
  find "$work/symbols" -exec touch --no-dereference --date="@$SOURCE_DATE_EPOCH" {} +
  dpkg-deb --build --root-owner-group -Zxz "$work/symbols" "$work/twinward-dbgsym_${package_version}_$target.deb" >/dev/null
}

deb() {
  local target=$1 triple=$2 program=$3 work stripped package package_version
  work=$(mktemp -d)
  stripped=$work/target/$triple/release/twinward
  mkdir -p "$(dirname "$stripped")"
  "$TOOLS/all/objcopy" --strip-all "$program" "$stripped"
  CARGO_TARGET_DIR=$work/target "$TOOLS/bin/cargo-deb" --no-build --no-strip --fast --target "$triple" --output "$work/" \
    >"$work/made"
  package=$(cat "$work/made")
  package_version=$(dpkg-deb --field "$package" Version)
  pack "$target" "$package" "$work"
  symbols "$target" "$program" "$stripped" "$package" "$work"
  fits "$target" program "$stripped"
  fits "$target" deb "$package"
  sbom "$stripped" "$package"
  mv "$work"/*.deb "$work"/*.cdx.json "$OUT/"
  rm -r "$work"
}

tarball() {
  local target=$1 program=$2 name=twinward-$version-$1 work
  work=$(mktemp -d)
  mkdir "$work/$name"
  cp -r LICENSE README.md CHANGELOG.md docs systemd packaging/{INSTALL,twinward.toml,third-party,baseline,man,completions} \
    packaging/{openrc,busybox} "$work/$name/"
  "$TOOLS/all/objcopy" --strip-all "$program" "$work/$name/twinward"
  chmod 755 "$work/$name/twinward"
  fits "$target" program "$work/$name/twinward"
  tar --create --directory "$work" --sort=name --owner=0 --group=0 --numeric-owner --mtime="@$SOURCE_DATE_EPOCH" \
    --mode=u+rw,go=rX --format=gnu "$name" | xz -9 --threads=1 >"$work/$name.tar.xz"
  fits "$target" tarball "$work/$name.tar.xz"
  sbom "$work/$name/twinward" "$work/$name.tar.xz"
  mv "$work/$name".tar.xz* "$OUT/"
  rm -r "$work"
}

version=$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -n1)
mkdir -p "$OUT"
# Another run may be installing the same, or writing the sums.
exec 8>target/packages.lock
flock 8
tools
flock -u 8
# Archives get the time of the commit.
if [[ -z ${SOURCE_DATE_EPOCH:-} ]]; then SOURCE_DATE_EPOCH=$(git log -1 --format=%ct); fi
export SOURCE_DATE_EPOCH
for target in "$@"; do
  program=$(scripts/build-cross.sh --device "$target")
  triple=$(basename "$(dirname "$(dirname "$program")")")
  case $target in
    *-musl) tarball "$target" "$program" ;;
    *) deb "$target" "$triple" "$program" ;;
  esac
done
flock 8
sums=$(cd "$OUT" && find . -type f '(' -name '*.deb' -o -name '*.tar.xz' -o -name '*.cdx.json' ')' -printf '%P\0' |
  sort -z | xargs -0 sha256sum)
echo "$sums" >"$OUT/SHA256SUMS"
echo "$OUT"
